"""Offline samples per second of each MLPerf Inference v1.0 model on accelerators where it has not run, per accelerator or MIG slice.

Closed division, accelerators only, the median of the submissions of a model on a card: of 1,994 rows these are 461, in 116 cells.
Variants of a model (99 and 99.9 % of the accuracy) are one family and are held out together. Splits. `unseen`: the family has not run on
the accelerator, others have: `median_error`. `cell`: only the very variant is held out. `accelerator`: no row of the accelerator, its
data sheet only. `chip`: no row of any card or slice of its chip. `one_known`: the family has run on one accelerator only, each in turn.
`model`: it has run nowhere. The covariance is tuned on each split's training rows. Beside it: the roofline alone, scaled by the model's
runs elsewhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from published import Held, cards, chip_of, figures, inference_rows, without

from fabric.show import table
from fabric.types import Flavor
from profiler.covariance import ROOFLINE_SHARE, specs_of
from profiler.transfer import Forecast, Row, Transfer

Hidden = Callable[[Row, Row], bool]
SPLITS: dict[str, Hidden] = {
    "unseen": lambda target, row: (row.family, row.flavor) == (target.family, target.flavor),
    "cell": lambda target, row: row == target,
    "accelerator": lambda target, row: row.flavor == target.flavor,
    "chip": lambda target, row: chip_of(row.flavor) == chip_of(target.flavor),
    "model": lambda target, row: row.family == target.family,
}
GOAL = "<= 0.20"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--verbose", action="store_true", help="by accelerator")
    args = parser.parse_args()
    rows, catalogue = inference_rows(), cards()
    held = {name: list(predict(rows, catalogue, is_hidden)) for name, is_hidden in SPLITS.items()}
    # Where nothing else ran on an accelerator, its row of `unseen` is one of `accelerator`.
    held["unseen"] = [
        one for one in held["unseen"] if any(SPLITS["accelerator"](one.row, row) and row.family != one.row.family for row in rows)
    ]
    held["one_known"] = list(from_one(rows, catalogue))
    result = {
        "median_error": figures(held["unseen"])["median"],
        "splits": {name: figures(found) for name, found in held.items()},
        "roofline": roofline(rows, catalogue),
        "by_accelerator": by(held, lambda row: row.flavor),
        "by_model": by(held, lambda row: row.task),
    }
    print(json.dumps(result)) if args.json else show(result, is_verbose=args.verbose)


def predict(rows: Sequence[Row], catalogue: dict[str, Flavor], is_hidden: Hidden) -> Iterator[Held]:
    fits: dict[frozenset[Row], Transfer] = {}
    for target in rows:
        hidden = frozenset(row for row in rows if is_hidden(target, row))
        if hidden not in fits:
            fits[hidden] = Transfer.fitted(catalogue, without(rows, hidden))
        yield Held(target, forecast(fits[hidden], target))


def from_one(rows: Sequence[Row], catalogue: dict[str, Flavor]) -> Iterator[Held]:
    """All of a family's rows from those on one accelerator; the spread is tuned without the family."""
    for family in sorted({row.family for row in rows}):
        own = [row for row in rows if row.family == family]
        rest = without(rows, own)
        spread = Transfer.fitted(catalogue, rest).spread
        for anchor in sorted({row.flavor for row in own}):
            fit = Transfer(catalogue, [*rest, *(row for row in own if row.flavor == anchor)], spread=spread)
            yield from (Held(row, forecast(fit, row)) for row in own if row.flavor != anchor)


def forecast(fit: Transfer, row: Row) -> Forecast:
    return fit.predict(row.task, row.family, row.flavor, log_size=row.log_size, dtype=row.dtype)


def roofline(rows: Sequence[Row], catalogue: dict[str, Flavor]) -> dict[str, float]:
    """The geometric mean of peak and bandwidth, with the mean of the model's own runs elsewhere as its base."""
    held = []
    for target in rows:
        own = [row for row in rows if row.task == target.task and row.flavor != target.flavor]
        base = statistics.fmean(row.log_s + speed(catalogue, row) for row in own)
        held.append(Held(target, Forecast(base - speed(catalogue, target), 1.0)))
    found = figures(held)
    return {key: found[key] for key in ("mape", "median", "num")}


def speed(catalogue: dict[str, Flavor], row: Row) -> float:
    compute, bandwidth, _ = specs_of(catalogue.get(row.flavor), row.dtype)
    return ROOFLINE_SHARE * (compute + bandwidth)


def by(held: dict[str, list[Held]], key: Callable[[Row], str]) -> dict[str, dict[str, float]]:
    """Median error of the splits `unseen` and `accelerator` for each value of `key`."""
    names = sorted({key(one.row) for one in held["accelerator"]})
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for split in ("unseen", "accelerator"):
        for name in names:
            errors = [one.error for one in held[split] if key(one.row) == name]
            if errors:
                found[name][split] = statistics.median(errors)
    return found


def show(result: dict[str, Any], *, is_verbose: bool) -> None:
    keys = ("median", "mape", "log_sd", "within_1_sd", "within_2_sd", "num")
    lines = [[name, *(f"{found[key]:.3g}" for key in keys)] for name, found in result["splits"].items()]
    lines.append(["roofline", *(f"{result['roofline'][key]:.3g}" if key in result["roofline"] else "" for key in keys)])
    print(table(["split", *keys], lines, right=tuple(range(1, 7))))
    if is_verbose:
        for title in ("by_accelerator", "by_model"):
            named = [
                [name, *(f"{found[key]:.3f}" if key in found else "" for key in ("unseen", "accelerator"))]
                for name, found in result[title].items()
            ]
            print(f"\n{table([title, 'unseen', 'accelerator'], named, right=(1, 2))}")
    print(f"median_error {result['median_error']:.4f} (goal {GOAL})")


if __name__ == "__main__":
    main()
