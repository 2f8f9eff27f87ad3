"""The dense ONNX model behind the product's own batcher: its service times measured alone, and one real run, tuned against static."""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from onnx_model import WIDTHS, Bare, write

from serve_apps.execution.build import serve_runtime
from serve_apps.execution.served import Served
from serve_apps.execution.tuner import BatchTuner
from serve_apps.load_model import load_model
from serve_apps.serve_options import ServeOptions
from serve_apps.tensors import InferRequest, Tensor

_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
_CALLERS = 64
_REAL_S = 1.5
_WARM_UP_ROUNDS = 3
_STATIC_ROWS = (1, 8, 32, 64)


def measured_run_s(max_rows: int, repeats: int = 60) -> Callable[[int], float]:
    """Rows -> seconds of one run: the median of some sizes, straight lines in between."""
    with tempfile.TemporaryDirectory() as folder:
        model = Bare(write(Path(folder) / "dense.onnx"))
        model.ms(numpy.zeros((max_rows, WIDTHS[0]), numpy.float32), count=20)
        medians = [statistics.median(model.ms(numpy.zeros((rows, WIDTHS[0]), numpy.float32), count=repeats)) / 1e3 for rows in _SIZES]
    table = numpy.interp(numpy.arange(max_rows + 1), _SIZES, numpy.maximum.accumulate(medians)).tolist()
    return lambda rows: table[rows]  # type: ignore[no-any-return]


class Fixed(BatchTuner):
    """Always takes up to `rows` and never waits."""

    def __init__(self, rows: int) -> None:
        super().__init__(1, math.inf)
        self._rows = rows

    def choose(self, waiting: int, oldest_s: float, now_s: float) -> tuple[int, float]:
        return self._rows, 0.0


async def real_run(rounds: int = 3) -> dict[str, Any]:
    """Requests per second of 64 callers that each ask again at once: tuned, and each static size, in turns; medians over the rounds."""
    x = numpy.random.default_rng(0).standard_normal((1, WIDTHS[0])).astype(numpy.float32)
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "dense.onnx")
        models = {"tuned": _served(path, None)} | {f"static_{rows}": _served(path, rows) for rows in _STATIC_ROWS}
        for _ in range(_WARM_UP_ROUNDS):  # the tuned one must have seen its load before it can be judged
            await _drive(models["tuned"], x)
        for _ in range(rounds):
            for name, model in models.items():
                found.setdefault(name, []).append(await _drive(model, x))
        for model in models.values():
            await model.close()
    rates = {name: statistics.median(rate for rate, _ in runs) for name, runs in found.items()}
    p99 = {f"real_p99_ms.{name}": statistics.median(ms for _, ms in runs) for name, runs in found.items()}
    best = max(rate for name, rate in rates.items() if name != "tuned")
    return {"real_ratio": rates["tuned"] / best, **{f"real_rps.{name}": rate for name, rate in rates.items()}, **p99}


def _served(path: Path, rows: int | None) -> Served:
    model = serve_runtime(load_model(path), "dense", "1", ServeOptions(max_batch_size=64, latency_budget_ms=50.0))
    if rows is not None:
        model._runner._batcher.tuner = Fixed(rows)
    return model


async def _drive(model: Served, x: Any) -> tuple[float, float]:
    """(answers per second, their 99th percentile in ms)."""
    took: list[float] = []
    end_s = time.perf_counter() + _REAL_S

    async def caller() -> None:
        while (start_s := time.perf_counter()) < end_s:
            await model.infer(InferRequest("dense", (Tensor("x", "FP32", x),)))
            took.append(time.perf_counter() - start_s)

    await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return len(took) / _REAL_S, 1e3 * sorted(took)[int(0.99 * len(took))]
