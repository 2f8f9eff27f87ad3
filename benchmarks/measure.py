"""Shared by the benchmarks: options, medians, a table for people or one JSON object."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fabric.show import table


def options(description: str, *, rounds: int) -> argparse.Namespace:
    """Parse `--json` and `--rounds`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()


def report(figures: Mapping[str, Any], goals: Mapping[str, str], *, as_json: bool) -> None:
    """Print every figure, with its goal where the project has one."""
    if as_json:
        print(json.dumps(figures))
        return
    rows = [[name, f"{value:.4g}" if isinstance(value, float) else str(value), goals.get(name, "")] for name, value in figures.items()]
    print(table(["figure", "measured", "goal"], rows, right=(1, 2)))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
