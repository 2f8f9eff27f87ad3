"""Mean completion time on Gavel's two physical-cluster traces, and the curve of it against makespan that the objectives span.

The first row of each trace knows every job's steps and charges nothing for a move, as Gavel's simulator does. Beside it: 60 s without
work after every start and move; steps told with a log-normal error (sd 0.5) until the first progress report; no steps told at all.
No policy sees an arrival before it comes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from gavel_traces import GAVEL, Ran, bounds, run

from fabric.scheduler.problem import Objective
from fabric.show import table

TRACES = ("minimize_makespan", "max_min_fairness")
GOALS = {"minimize_makespan": 6.65, "max_min_fairness": 3.13}
CURVE: tuple[Objective, ...] = ("jct", "balanced", "makespan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--trace", choices=TRACES, help="only this one")
    parser.add_argument("--seeds", type=int, default=3, help="of the estimates; their mean is printed")
    parser.add_argument("--no-curve", action="store_true")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    for trace in (args.trace,) if args.trace else TRACES:
        figures[trace] = measure(trace, args.seeds)
        if not args.no_curve:
            figures[trace]["curve"] = curve(trace, figures[trace])
    print(json.dumps(figures)) if args.json else show(figures)


def measure(trace: str, num_seeds: int) -> dict[str, Any]:
    known, charged, unknown = run(trace, "jct"), run(trace, "jct", restart_s=60.0), run(trace, "jct", steps="unknown")
    estimated = [run(trace, "jct", steps="estimated", seed=seed).figures["jct_h"] for seed in range(num_seeds)]
    bound_h = bounds(trace)["jct_h"]
    return {
        **row(known),
        "bound_h": bound_h,
        "ratio": known.figures["jct_h"] / bound_h if bound_h else None,
        "gavel_h": min(jct_h for jct_h, _ in GAVEL[trace].values()),
        "charged_60s": row(charged),
        "estimated": {"jct_h": sum(estimated) / len(estimated), "by_seed": estimated},
        "unknown": row(unknown),
    }


def row(ran: Ran) -> dict[str, float]:
    names = ("jct_h", "jct_p99_h", "makespan_s", "utilisation", "restarts", "leases_kept_frac", "worst_fairness")
    return {name: ran.figures[name] for name in names} | {"wall_s": ran.outcome.wall_s}


def curve(trace: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    points = {objective: row(run(trace, objective)) for objective in CURVE if objective != "jct"} | {"jct": measured}
    ends = [(points[name]["jct_h"], points[name]["makespan_s"]) for name in ("jct", "makespan")]
    place = points["balanced"]["jct_h"], points["balanced"]["makespan_s"]
    return {
        **{name: {key: points[name][key] for key in ("jct_h", "makespan_s", "jct_p99_h", "worst_fairness")} for name in CURVE},
        "default_over_curve_frac": over_curve(place, ends),
    }


def over_curve(place: tuple[float, float], ends: list[tuple[float, float]]) -> float:
    """How much both figures of the curve's nearest point would have to grow to reach this place; negative: better than the curve."""
    (jct_a, span_a), (jct_b, span_b) = ends
    steps = [step / 1000 for step in range(1001)]
    return min(max(place[0] / (jct_a + part * (jct_b - jct_a)), place[1] / (span_a + part * (span_b - span_a))) for part in steps) - 1.0


def show(figures: Mapping[str, Any]) -> None:
    for trace, found in figures.items():
        rows = [["steps known", shown(found, "jct_h"), shown(found, "jct_p99_h"), shown(found, "makespan_s"), f"<= {GOALS[trace]}"]]
        for name, label in (("charged_60s", "60 s for every start"), ("estimated", "steps estimated"), ("unknown", "steps unknown")):
            rows.append([label, *(shown(found[name], key) for key in ("jct_h", "jct_p99_h", "makespan_s")), ""])
        points = found.get("curve", {})
        rows += [
            [f"objective {name}", *(shown(points[name], key) for key in ("jct_h", "jct_p99_h", "makespan_s")), ""]
            for name in CURVE
            if name in points
        ]
        rows += [[f"Gavel {name}", f"{jct_h:.2f}", "", f"{span_s:,.0f}", ""] for name, (jct_h, span_s) in GAVEL[trace].items()]
        rows.append(["lower bound", shown(found, "bound_h"), "", f"{bounds(trace)['makespan_s'] or 0:,.0f}", ""])
        print(f"\n{trace}\n{table(['', 'mean h', 'p99 h', 'makespan s', 'goal'], rows, right=(1, 2, 3, 4))}")
        if "curve" in found:
            print(f"the default (balanced) is {100 * found['curve']['default_over_curve_frac']:+.1f} % from the curve (goal <= 10 %)")


def shown(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return "" if value is None else f"{value:,.0f}" if name.endswith("_s") else f"{value:.2f}"


if __name__ == "__main__":
    main()
