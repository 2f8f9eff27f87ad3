"""Pure: what `fabric profile` answers, as one JSON form; the printed table shows nothing else.

    {target, kind, domain, phase, evidence, inputs: [{name, dtype, shape}], batch, parameters, dtype, flops, moved_bytes, intensity,
     num_kernels, weights_bytes, memory_bytes, peak_memory_bytes, measured, flavors: [row], cheapest, fastest,
     rivals: {cheapest, fastest}, notes}
    measured: {outcome, runs, run_s, run_log_sd, cpu_s, peak_memory_bytes, base_memory_bytes, flavor, num_cpus, device,
               device_memory_bytes, problem}
    row: {tier, flavor, kind, units, twin, dtype, run_s, run_log_sd, calls_per_s, usd_per_1000, limit, source, runs, note}

`num_kernels`: operations that are launched one by one. `memory_bytes` is computed (weights and what lives at once),
`peak_memory_bytes` measured. Of a row, `source` is `measured` (here, or by the fabric: `runs` of them) or `predicted`; `limit` is what a
predicted time mostly goes to (`compute`, `memory`, `launches`). A row without figures says why in `note`. `rivals`: flavors that the
best one cannot be told from. What is not known is null.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from fabric.fitted import WIDTH, fitted
from fabric.show import duration, percent_band

_SHOWN_EVIDENCE = 2
_SHOWN_RIVALS = 4


def format_report(form: Mapping[str, Any]) -> str:
    """The form for people."""
    lines = [f"{form['target']}: {form['domain']} {form['phase']}", *_heads(form), ""]
    lines += (
        [_flavor_table(form["flavors"]), "", *_picks(form)]
        if form["flavors"]
        else [f"no times: {_without(form['measured'])}, and its FLOPs are not known"]
    )
    lines += [f"note: {note}" for note in form["notes"]]
    return "\n".join(lines)


def _without(measured: Mapping[str, Any]) -> str:
    return {"skipped": "it was not run", "timeout": "it did not end before its cap"}.get(measured["outcome"], "its run failed")


def _heads(form: Mapping[str, Any]) -> list[str]:
    heads = [("because", "; ".join(_because(form)))]
    heads.append(("takes", ", ".join(f"{i['name']} {i['dtype']}{i['shape']}" for i in form["inputs"][:4])))
    heads.append(("computes", _work(form)))
    heads.append(("memory", _memory(form)))
    heads.append(("measured", _measured(form["measured"])))
    return [f"{name:<9} {text}" for name, text in heads if text]


def _because(form: Mapping[str, Any]) -> list[str]:
    """The strongest evidence for the domain, and for the phase; what was declared in its place."""
    told = []
    for noun in ("domain", "phase"):
        found = [line for line in form["evidence"] if line.startswith((f"{form[noun]} +", f"declared: {noun}"))]
        told += found[: _SHOWN_EVIDENCE if noun == "domain" else 1]
    return told


def _work(form: Mapping[str, Any]) -> str:
    known = "" if form["parameters"] is None else f"{quantity(form['parameters']).strip()} parameters"
    held = ", ".join(text for text in (form["dtype"], size(form["weights_bytes"]) if form["weights_bytes"] else "") if text)
    known += f" ({held})" if known and held else ""
    if form["flops"] is None:
        return known
    figures = f"{quantity(form['flops'])}FLOP and {size(form['moved_bytes'])} moved per call: {form['intensity']:.3g} FLOP/B"
    return f"{figures}; {known}" if known else figures


def _memory(form: Mapping[str, Any]) -> str:
    measured = form["measured"]
    said = []
    if form["memory_bytes"]:
        said.append(f"{size(form['memory_bytes'])} by its shapes")
    if form["peak_memory_bytes"]:
        base = measured["base_memory_bytes"]
        said.append(f"{size(form['peak_memory_bytes'])} peak of the process" + (f" ({size(base)} before it was loaded)" if base else ""))
    if measured["device_memory_bytes"]:
        said.append(f"{size(measured['device_memory_bytes'])} on the GPU")
    return "; ".join(said)


def _measured(measured: Mapping[str, Any]) -> str:
    if measured["outcome"] == "skipped":
        return "not run"
    if measured["outcome"] != "ok":
        return str(measured["problem"] or measured["outcome"])
    runs = "1 run" if measured["runs"] == 1 else f"{measured['runs']} runs"
    on = measured["device"] or f"{measured['num_cpus']} CPU of this machine"
    place = f" ({measured['flavor']})" if measured["flavor"] else ""
    return f"{_time(measured['run_s'])} ±{percent_band(measured['run_log_sd'])}, {runs} on {on}{place}; CPU {duration(measured['cpu_s'])}"


def _flavor_table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = ["tier", "flavor", "dtype", "time", "±", "calls/s", "$/1,000", "limit", "from"]
    cells = [_row(row) for row in rows]
    if shutil.get_terminal_size((WIDTH, 24)).columns < WIDTH:  # calls/s says again what the time says; what a figure is from does not
        gone = columns.index("calls/s")
        columns.pop(gone)
        cells = [row[:gone] + row[gone + 1 :] for row in cells]
    return fitted(columns, cells, most=dict.fromkeys(columns[:-1], 24), right=("time", "±", "calls/s", "$/1,000"))


def _row(row: Mapping[str, Any]) -> list[str]:
    units = f" ×{row['units']:g}" if row["units"] != 1 else ""
    name = f"{row['flavor']}{units}{' twin' if row['twin'] else ''}"
    if row["run_s"] is None:
        return [row["tier"], name, row["dtype"] or "-", "-", "-", "-", "-", "-", row["note"]]
    runs = f", {row['runs']} run{'s' if row['runs'] != 1 else ''}" if row["runs"] else ""
    note = f": {row['note']}" if row["note"] else ""
    return [
        row["tier"],
        name,
        row["dtype"] or "-",
        _time(row["run_s"]),
        percent_band(row["run_log_sd"]),
        _rate(row["calls_per_s"]),
        _usd(row["usd_per_1000"]),
        row["limit"] or "-",
        f"{row['source']}{runs}{note}",
    ]


def _picks(form: Mapping[str, Any]) -> list[str]:
    return [_pick(word, form[word], form["rivals"][word]) for word in ("cheapest", "fastest") if form[word]]


def _pick(word: str, name: str, rivals: Sequence[str]) -> str:
    if not rivals:
        return f"{word}: {name}"
    more = f" and {len(rivals) - _SHOWN_RIVALS} more" if len(rivals) > _SHOWN_RIVALS else ""
    return f"{word}: {name}; within the doubt of it {', '.join(rivals[:_SHOWN_RIVALS])}{more}"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e9:.3g} ns" if seconds < 1e-6 else duration(seconds)


def _usd(amount: float | None) -> str:
    """Two significant digits at least, never as a power of ten: these are read against each other, down a column."""
    if amount is None:
        return "-"
    digits = 2 if amount >= 1 else min(9, 1 - math.floor(math.log10(max(amount, 1e-9))))
    return f"${amount:.{digits}f}"


def quantity(number: float) -> str:
    """`704 M`, `8.2 G`: with the prefix of a unit that follows."""
    for limit, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {prefix}"
    return f"{number:.3g} "


def size(num_bytes: float | None) -> str:
    """`20.6 MiB`."""
    if num_bytes is None:
        return "-"
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.3g} {unit}"
    return f"{num_bytes:.0f} B"
