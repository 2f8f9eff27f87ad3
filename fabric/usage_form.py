"""The JSON form of who used what, how it looks to people, and how it leaves as a file's rows. Pure.

    usage        {by, rows, now_s}; `by` is `user`, `queue` or `model`
    row          {name, pending, running, ended, units, accelerator_hours, vcpu_hours, cost_usd, share_frac, weight,
                  budget_usd, budget_left_usd}
    row of model {name, user, replicas, usd_per_h, requests, errors, replica_hours, flavor_hours: {flavor: hours}, cost_usd, usd_per_1000,
                  share_frac, since_s}

Units are accelerators, or vCPUs of CPU flavors. Of a model, `replicas` and `usd_per_h` are those of now, the rest sums since `since_s`;
`usd_per_1000` is the cost of 1,000 requests, the hours in which none came included. `share_frac` is the part of what all rows cost. What is
not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.show import usd

_HELD = ("pending", "running", "ended", "units", "accelerator_hours", "vcpu_hours", "cost_usd")
ROW_KEYS = ("name", *_HELD, "share_frac", "weight", "budget_usd", "budget_left_usd")
MODEL_ROW_KEYS = (
    "name", "user", "replicas", "usd_per_h", "requests", "errors", "replica_hours", "flavor_hours", "cost_usd", "usd_per_1000",
    "share_frac", "since_s",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A cell that begins so may be a formula to a spreadsheet. Source: OWASP, CSV injection."""


def render_usage(form: Mapping[str, Any]) -> str:
    return text_of(usage_blocks(form))


def usage_blocks(form: Mapping[str, Any]) -> list[Block]:
    """A row for each user, queue or model, the dearest first."""
    if not form["rows"]:
        return [Lines(["nothing was used yet"])]
    if form["by"] == "model":
        columns = ["model", "replicas", "replica-hours", "requests", "errors", "cost", "per 1,000", "share", "now"]
        make = _model_cells
    else:
        columns = [form["by"], "pending", "running", "ended", "holds", "acc-hours", "vCPU-hours", "cost", "share", "budget left"]
        make = _cells
    rows = [make(row) for row in sorted(form["rows"], key=lambda row: -(row["cost_usd"] or 0.0))]
    return [Table(columns, rows, columns[1:], {columns[0]: 24})]


def with_shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of models, each with its share of what they cost; null where not all costs are known."""
    costs = [row["cost_usd"] for row in rows]
    total = 0.0 if None in costs else sum(costs)
    return [{**row, "share_frac": row["cost_usd"] / total if total > 0 else None} for row in rows]


def flat_rows(form: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows as a file has them, each value a number, a word or None: a model's hours by flavor are one text (`a10: 1.5, t4: 0.25`)."""
    if form["by"] != "model":
        return [{key: row[key] for key in ROW_KEYS} for row in form["rows"]]
    return [{key: _hours(row[key]) if key == "flavor_hours" else row[key] for key in MODEL_ROW_KEYS} for row in form["rows"]]


def safe_cell(value: Any) -> Any:
    """For CSV: what a spreadsheet might run as a formula is text, by an apostrophe before it; numbers stay as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        str(row["pending"]),
        str(row["running"]),
        str(row["ended"]),
        f"{row['units']:g}",
        f"{row['accelerator_hours']:.1f}",
        f"{row['vcpu_hours']:.1f}",
        usd(row["cost_usd"]),
        _share(row["share_frac"]),
        "-" if row["budget_usd"] is None else f"{usd(max(0.0, row['budget_left_usd']))} of {usd(row['budget_usd'])}",
    ]


def _model_cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        str(row["replicas"]),
        f"{row['replica_hours']:.1f}",
        f"{row['requests']:,}",
        f"{row['errors']:,}",
        usd(row["cost_usd"]),
        usd(row["usd_per_1000"]),
        _share(row["share_frac"]),
        "-" if row["usd_per_h"] is None else f"{usd(row['usd_per_h'])}/h",
    ]


def _share(frac: float | None) -> str:
    return "-" if frac is None else f"{100 * frac:.0f} %"


def _hours(by_flavor: Mapping[str, float]) -> str:
    return ", ".join(f"{flavor}: {hours:.6g}" for flavor, hours in by_flavor.items())
