"""Throughput of Gavel's 26 single-GPU job types on a device where they have not run, from the other two; then after a probe of 30 s.

Splits, each device as the target in turn. `cell`: the job type has not run there, all others have. `family`: none of its family has.
`device`: nothing has, its data sheet is all that is known. The covariance is tuned on the training rows of each split anew. Both of
Gavel's tables are read (in the physical one, ResNet-50 with batches of 128 does not run on K80: 77 cells in place of 78); `mape_blind` is
the mean of the devices in `cell`, of the table that does worse, and so are the other two keys. A probe runs steps for at most so many
seconds, each with 5 % log-normal noise; `noise_floor` is the error of the plain mean of the same steps. Beside it in the same run: a
log-linear fit of the target on the other two devices, leaving one job type out.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from published import DEVICES, Held, figures, single_gpu_rows, without

from fabric.show import table
from pools.flavors import load_catalogue
from profiler.correction import corrected, probe_of
from profiler.transfer import Row, Transfer

SPLITS: dict[str, Callable[[Row, Row], bool]] = {
    "cell": lambda target, row: row.task == target.task and row.flavor == target.flavor,
    "family": lambda target, row: row.family == target.family and row.flavor == target.flavor,
    "device": lambda target, row: row.flavor == target.flavor,
}
STEP_NOISE = 0.05
PROBES_S = (1.0, 5.0, 30.0)
TABLES = ("physical_cluster", "simulation")
GOALS = {"mape_blind": "(goal <= 0.15)", "mape_probed": "(goal <= 0.03)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--seeds", type=int, default=5, help="of the probes' noise")
    parser.add_argument("--table", choices=TABLES, help="only this one")
    parser.add_argument("--verbose", action="store_true", help="every job type of the split `cell`")
    args = parser.parse_args()
    tables = {}
    for name in (args.table,) if args.table else TABLES:
        tables[name], cells = measure(name, args.seeds)
        if not args.json:
            show(name, tables[name], cells if args.verbose else ())
    keys = ("mape_blind", "mape_probed", "noise_floor")
    result = {key: max(found[key] for found in tables.values()) for key in keys}
    if args.json:
        print(json.dumps({**result, "tables": tables}))
        return
    for key in keys:
        print(f"{key} {result[key]:.4f} {GOALS.get(key, '')}")


def measure(name: str, num_seeds: int) -> tuple[dict[str, Any], list[Held]]:
    rows = single_gpu_rows(f"{name}_throughputs.json")
    held = {split: predict(rows, is_hidden) for split, is_hidden in SPLITS.items()}
    splits = {split: {device: figures(of_device(found, device)) for device in DEVICES} for split, found in held.items()}
    probes = {f"{cap_s:g}s": probed(held["cell"], cap_s, num_seeds) for cap_s in PROBES_S}
    result = {
        "mape_blind": mean_of(splits["cell"], "mape"),
        "mape_probed": probes["30s"]["mape"],
        "noise_floor": probes["30s"]["noise_floor"],
        "median_blind": statistics.median(one.error for one in held["cell"]),
        "blind": {split: {"mape": mean_of(found, "mape"), **found} for split, found in splits.items()},
        "probed": probes,
        "log_linear": {device: log_linear(rows, device) for device in DEVICES},
    }
    return result, held["cell"]


def predict(rows: Sequence[Row], is_hidden: Callable[[Row, Row], bool]) -> list[Held]:
    """Every row, predicted from those that the split leaves."""
    catalogue = load_catalogue()
    fits: dict[frozenset[Row], Transfer] = {}
    found = []
    for target in rows:
        hidden = frozenset(row for row in rows if is_hidden(target, row))
        if hidden not in fits:
            fits[hidden] = Transfer.fitted(catalogue, without(rows, hidden))
        forecast = fits[hidden].predict(target.task, target.family, target.flavor, log_size=target.log_size, dtype=target.dtype)
        found.append(Held(target, forecast))
    return found


def probed(blind: Sequence[Held], cap_s: float, num_seeds: int) -> dict[str, Any]:
    """The forecasts after a probe of at most `cap_s` of simulated time; `num_steps_least`: of the slowest job type."""
    after, floors, counts = [], [], []
    for seed in range(num_seeds):
        for row, forecast in blind:
            rng = random.Random(f"{seed}/{row.task}/{row.flavor}")
            steps, left_s = run_steps(math.exp(row.log_s), cap_s, rng)
            after.append(Held(row, corrected(forecast, probe_of(steps, unfinished_s=left_s))))
            counts.append(len(steps))
            if steps:
                floors.append(abs(math.exp(row.log_s) / statistics.fmean(steps) - 1.0))
    return {
        **figures(after),
        "noise_floor": statistics.fmean(floors),
        "num_steps_least": min(counts),
        "num_steps_median": statistics.median(counts),
        "without_a_step_frac": statistics.fmean(count == 0 for count in counts),
    }


def run_steps(step_s: float, cap_s: float, rng: random.Random) -> tuple[list[float], float]:
    """The steps that end within `cap_s`, and how long the one that did not had run."""
    steps: list[float] = []
    left_s = cap_s
    while (took_s := step_s * math.exp(rng.gauss(0.0, STEP_NOISE))) <= left_s:
        steps.append(took_s)
        left_s -= took_s
    return steps, left_s


def log_linear(rows: Sequence[Row], target: str) -> dict[str, float]:
    """Least squares of the target's log throughput on the other two devices', each job type left out in turn, where it ran on all three."""
    logs = {(row.task, row.flavor): -row.log_s for row in rows}
    others = [device for device in DEVICES if device != target]
    tasks = sorted({row.task for row in rows if all((row.task, device) in logs for device in DEVICES)})
    errors = []
    for left in tasks:
        rest = [task for task in tasks if task != left]
        known = np.array([[1.0, *(logs[task, device] for device in others)] for task in rest])
        weights, *_ = np.linalg.lstsq(known, np.array([logs[task, target] for task in rest]), rcond=None)
        found = float(weights @ [1.0, *(logs[left, device] for device in others)])
        errors.append(abs(math.exp(found - logs[left, target]) - 1.0))
    return {"mape": statistics.fmean(errors), "median": statistics.median(errors), "num": len(errors)}


def of_device(held: Sequence[Held], device: str) -> list[Held]:
    return [one for one in held if one.row.flavor == device]


def mean_of(by_device: dict[str, dict[str, float]], key: str) -> float:
    return statistics.fmean(found[key] for found in by_device.values())


def show(name: str, result: dict[str, Any], cells: Sequence[Held]) -> None:
    for row, forecast in sorted(cells, key=lambda one: (one.row.flavor, one.row.task)):
        rates = f"true {math.exp(-row.log_s):8.3f}/s  predicted {math.exp(-forecast.mean_log):8.3f}/s"
        print(f"{row.flavor:5} {row.task:34} {rates} +- {forecast.log_sd:.2f}")
    keys = ("mape", "median", "log_sd", "within_1_sd", "within_2_sd", "num")
    lines = []
    for split, found in result["blind"].items():
        lines += [[split, device, *(f"{found[device][key]:.3g}" for key in keys)] for device in DEVICES]
        lines.append([split, "mean", f"{found['mape']:.3g}", *[""] * 5])
    lines += [
        ["log-linear", device, f"{found['mape']:.3g}", f"{found['median']:.3g}", *[""] * 4]
        for device, found in result["log_linear"].items()
    ]
    lines += [[f"probe {cap}", "all", *(f"{found[key]:.3g}" for key in keys)] for cap, found in result["probed"].items()]
    print(f"\n{name}\n{table(['split', 'target', *keys], lines, right=tuple(range(2, 8)))}")
    for cap, found in result["probed"].items():
        counts = f"{found['num_steps_least']} steps at least, {found['num_steps_median']:g} in the median"
        print(f"probe {cap}: noise floor {found['noise_floor']:.4f}; {counts}, not one in {found['without_a_step_frac']:.1%}")


if __name__ == "__main__":
    main()
