"""Self-tuned batches against the best static setting: how much load each carries with its 99th percentile in the budget.

On virtual time, the product's own batcher against a search over largest batch and wait. The search sees one recording of arrivals,
then both meet other recordings. Service times: formulas, and a model measured here in onnxruntime; arrivals: Poisson, and bursts.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy
from batch_world import Floats, RunTime, batcher_latencies, bursts, keeps, most_load, poisson, static_latencies, warmed
from measured_model import measured_run_s, real_run

from serve_apps.execution.batcher import Batcher
from serve_apps.serve_options import ServeOptions

MS = 0.001
MAX_ROWS = 64
NUM_REQUESTS, WARM_UP = 16_000, 8_000
STATIC_ROWS = (64, 32, 16, 8, 48, 24, 12, 4, 1)
STATIC_WAIT_FRACS = (0.0, 0.04, 0.1, 0.2)
NOISE = 0.1
CURVES: dict[str, tuple[RunTime, float]] = {
    "fixed": (lambda rows: (5 + 0.2 * rows) * MS, 0.05),
    "per_row": (lambda rows: (0.5 + 1.0 * rows) * MS, 0.05),
    "steps": (lambda rows: 3 * MS * math.ceil(rows / 8), 0.05),
    "cliff": (lambda rows: (1 + 0.3 * min(rows, 16) + 0.9 * max(0, rows - 16)) * MS, 0.05),
    "quick": (lambda rows: (0.2 + 0.02 * rows) * MS, 0.003),
}
"""Rows -> seconds, and the budget: a large fixed cost, none to speak of, steps of eight rows, rows that grow dear, a quick model."""
ARRIVALS: dict[str, Callable[[numpy.random.Generator, int], Floats]] = {"poisson": poisson, "bursts": bursts}


class Case:
    """One service time under one kind of arrivals."""

    def __init__(self, run_s: RunTime, budget_s: float, arrivals: Callable[[numpy.random.Generator, int], Floats]) -> None:
        self.run_s, self.budget_s, self._arrivals = run_s, budget_s, arrivals
        self.most_per_s = 1.1 * max(rows / run_s(rows) for rows in range(1, MAX_ROWS + 1))

    def recording(self, seed: int) -> tuple[Floats, Floats]:
        """(arrival times at one per second, factors of the service time)."""
        rng = numpy.random.default_rng(seed)
        arrivals = warmed(self._arrivals(rng, NUM_REQUESTS), WARM_UP)
        return arrivals, numpy.exp(rng.normal(-NOISE * NOISE / 2, NOISE, 4096))

    def static_keeps(self, seed: int, rows: int, wait_s: float) -> Callable[[float], bool]:
        arrivals, noise = self.recording(seed)
        return lambda load: keeps(static_latencies(arrivals / load, self.run_s, noise, rows, wait_s), WARM_UP, self.budget_s)

    def tuned_keeps(self, seed: int) -> Callable[[float], bool]:
        arrivals, noise = self.recording(seed)
        options = ServeOptions(max_queued=10**9, max_batch_size=MAX_ROWS, latency_budget_ms=self.budget_s / MS)
        return lambda load: keeps(batcher_latencies(arrivals / load, self.run_s, noise, Batcher(options)), WARM_UP, self.budget_s)

    def best_static(self, seed: int) -> tuple[int, float]:
        """(rows, wait in seconds) that carry the most load on this recording."""
        best, setting = 0.0, (1, 0.0)
        for rows in STATIC_ROWS:
            for frac in STATIC_WAIT_FRACS:
                kept = self.static_keeps(seed, rows, frac * self.budget_s)
                if kept(1.003 * best + 1e-9):  # what does not beat the best so far needs no search
                    best, setting = most_load(kept, best, self.most_per_s), (rows, frac * self.budget_s)
        return setting

    def ratio(self, seeds: range) -> tuple[float, tuple[int, float]]:
        """Load of the tuned over that of the best static setting: the geometric mean over fresh recordings; and the setting."""
        setting = self.best_static(seeds.start - 1)
        logs = []
        for seed in seeds:
            static = most_load(self.static_keeps(seed, *setting), 0.0, self.most_per_s)
            tuned = most_load(self.tuned_keeps(seed), 0.0, self.most_per_s)
            logs.append(math.log(tuned / static))
        return math.exp(statistics.mean(logs)), setting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--seeds", type=int, default=3, help="recordings that both meet")
    parser.add_argument("--curves", nargs="*", default=[*CURVES, "onnx"], help="some of the service times only")
    parser.add_argument("--no-real", action="store_true", help="virtual time only")
    args = parser.parse_args()
    figures: dict[str, object] = {}
    ratios = []
    measured = measured_run_s(MAX_ROWS) if "onnx" in args.curves else None
    started_s = time.monotonic()
    for curve in args.curves:
        run_s, budget_s = (measured, 20 * measured(1)) if curve == "onnx" and measured else CURVES[curve]
        for kind, arrivals in ARRIVALS.items():
            case = Case(run_s, budget_s, arrivals)
            ratio, (rows, wait_s) = case.ratio(range(2, 2 + args.seeds))
            ratios.append(ratio)
            figures[f"tuned_ratio.{curve}.{kind}"] = ratio
            figures[f"static.{curve}.{kind}"] = f"{rows} rows, {wait_s / MS:.2g} ms"
    figures = {"tuned_ratio": math.exp(statistics.mean(map(math.log, ratios))), "tuned_ratio_worst": min(ratios), **figures}
    figures["wall_s"] = time.monotonic() - started_s
    if not args.no_real:
        figures |= asyncio.run(real_run())
    report(figures, {"tuned_ratio": ">= 0.95"}, as_json=args.json)


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from measure import report

    main()
