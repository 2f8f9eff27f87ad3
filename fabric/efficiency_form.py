"""The JSON form of asked for against used, how it looks to people, and what to change. Pure.

    row         {name, jobs, runs, wall_s, cpus_asked, cpus_used, cpu_frac, memory_asked_bytes, memory_peak_bytes, memory_frac,
                 gpu_frac, gpu_memory_bytes, gpu_memory_peak_bytes, cost_usd, wasted_usd, hints}
    of a job    {job, timeout_s, …row}
    rows        {by, rows: [row], problem, now_s}

CPUs are means over the time that it ran; memory is of one process: what was asked for and the peak; GPU memory is that of one card.
Fractions are used / asked, weighed by time. `hints` are sentences. `problem` says why tasks are missing. What is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.efficiency import fitting_cpus, fitting_memory
from fabric.job_ids import short_id
from fabric.show import duration, gib, usd

_USED = {"cpus_asked", "cpus_used", "memory_asked_bytes", "memory_peak_bytes", "gpu_memory_bytes", "gpu_memory_peak_bytes"}
EFFICIENCY_ROW_KEYS = frozenset(
    {"name", "jobs", "runs", "wall_s", "cpu_frac", "memory_frac", "gpu_frac", "cost_usd", "wasted_usd", "hints"} | _USED
)
JOB_EFFICIENCY_KEYS = EFFICIENCY_ROW_KEYS | {"job", "timeout_s"}
LEAST_GAIN = 0.8
"""Less than a fifth is not worth a change."""
IDLE_GPU_FRAC = 0.3
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")


def job_hints(row: Mapping[str, Any], *, is_accelerated: bool, num_ranks: int = 1) -> list[str]:
    """What to ask for the next time, for each of its `num_ranks` processes. A job pays for accelerators or for CPUs; memory that
    it leaves free is others' gain."""
    found = []
    if is_accelerated and row["gpu_frac"] is not None and row["gpu_frac"] < IDLE_GPU_FRAC:
        saved = f", {usd(row['wasted_usd'])} of {usd(row['cost_usd'])} was for nothing" if row["wasted_usd"] else ""
        found.append(f"its GPU was busy for {_percent(row['gpu_frac'])} of the time{saved}: `fabric plan --gpus any` shows cheaper ones")
    asked, used = row["cpus_asked"] / num_ranks, row["cpus_used"] / num_ranks
    if (cpus := fitting_cpus(used)) <= LEAST_GAIN * asked:
        gain = "leaves the others to those who wait"
        if not is_accelerated and row["cost_usd"]:
            gain = f"would save {usd(row['cost_usd'] * (1.0 - cpus / asked))} per run"
        each = "each process " if num_ranks > 1 else ""
        found.append(f"{each}asks for {_cpus(asked)}, uses {used:.2g}: cpus={cpus:g} {gain}")
    if words := _memory_hint(row):
        fitting = fitting_memory(row["memory_peak_bytes"])
        found.append(f"{words}: memory='{_size(fitting)}' would leave {gib(row['memory_asked_bytes'] - fitting)} to others")
    return found


def task_hints(row: Mapping[str, Any]) -> list[str]:
    """What to ask for in the decorator; the dollars are those of decision 3's dominant share."""
    per_1000 = 1000.0 * row["wasted_usd"] / row["runs"] if row["wasted_usd"] and row["runs"] else 0.0
    saves = f" would save up to {usd(per_1000)} per 1,000 calls" if per_1000 else " leaves more to others"
    found = []
    if words := _memory_hint(row):
        found.append(f"{words}: memory={fitting_memory(row['memory_peak_bytes']) >> 20} * 2**20 or resources='auto'{saves}")
    asked, used = row["cpus_asked"], row["cpus_used"]
    if asked > 0 and (cpus := fitting_cpus(used)) <= LEAST_GAIN * asked:
        found.append(f"asks for {_cpus(asked)}, uses {used:.2g}: num_cpus={cpus:g}{saves}")
    return found


def render_job_efficiency(form: Mapping[str, Any]) -> str:
    return text_of(job_efficiency_blocks(form))


def job_efficiency_blocks(form: Mapping[str, Any]) -> list[Block]:
    """One job, a row for each thing that it asked for."""
    job = form["job"]
    head = f"{job['name']} ({short_id(job['id'])}) of {job['user']} in {job['queue']}: {job['state']}, {_where(job)}"
    if not form["jobs"]:
        return [Lines([head, "nothing measured it" if job["state"] in FINAL else "it is measured when an attempt ends"])]
    rows = [["CPUs", f"{form['cpus_asked']:.3g}", f"{form['cpus_used']:.3g}", _percent(form["cpu_frac"])]]
    memory = gib(form["memory_asked_bytes"]) if form["memory_asked_bytes"] else "no limit"
    rows.append(["memory of a process", memory, f"{gib(form['memory_peak_bytes'])} peak", _percent(form["memory_frac"])])
    if form["gpu_frac"] is not None:
        rows.append(["GPU time", "100 %", _percent(form["gpu_frac"]), _percent(form["gpu_frac"])])
    if form["gpu_memory_bytes"]:
        part = form["gpu_memory_peak_bytes"] / form["gpu_memory_bytes"]
        rows.append(["memory of a GPU", gib(form["gpu_memory_bytes"]), f"{gib(form['gpu_memory_peak_bytes'])} peak", _percent(part)])
    limit_s = form["timeout_s"]
    part = form["wall_s"] / limit_s if limit_s and job["attempt"] == 1 else None
    rows.append(["time", duration(limit_s) if limit_s else "no limit", duration(form["wall_s"]), _percent(part)])
    if form["cost_usd"] is not None:
        wasted = form["wasted_usd"]
        used = usd(max(0.0, form["cost_usd"] - wasted)) if wasted is not None else "not measured"
        rows.append(["dollars", usd(form["cost_usd"]), used, "-" if wasted is None else _percent(_part(form["cost_usd"] - wasted, form))])
    hints = [f"hint: {hint}" for hint in form["hints"]]
    columns, most = ["", "asked for", "used", "used of it"], {"": 20, "asked for": 12, "used": 16}
    if not form["wasted_usd"]:
        return [Lines([head]), Table(columns, rows, ("used of it",), most, after="\n".join(hints))]
    return [Lines([head]), Table(columns, rows, ("used of it",), most), Lines([f"the difference cost {usd(form['wasted_usd'])}", *hints])]


def render_efficiency(form: Mapping[str, Any]) -> str:
    return text_of(efficiency_blocks(form))


def efficiency_blocks(form: Mapping[str, Any]) -> list[Block]:
    """A row for each, the one that wastes most first, and what the first ones should change."""
    by, problem = form["by"], [f"tasks are not counted: {form['problem']}"] if form["problem"] else []
    if not form["rows"]:
        return [Lines(["nothing was measured yet", *problem])]
    columns = [by, "jobs", "task runs", "ran", "CPU", "memory", "GPU", "cost", "wasted"]
    rows = [
        [row["name"], str(row["jobs"]), str(row["runs"]), duration(row["wall_s"])]
        + [_percent(row[f"{what}_frac"]) for what in ("cpu", "memory", "gpu")]
        + [usd(row["cost_usd"]), usd(row["wasted_usd"])]
        for row in form["rows"]
    ]
    if by == "task":
        columns, rows = columns[:1] + columns[2:], [row[:1] + row[2:] for row in rows]
    hints = [f"hint: {row['name']} {row['hints'][0]}" for row in form["rows"] if row["hints"]][:3]
    shown = Table(columns, rows, columns[1:], {by: 28})
    return [shown, Lines([*hints, *problem])] if hints or problem else [shown]


def _memory_hint(row: Mapping[str, Any]) -> str:
    """What it asked for and used; empty where that fits, or nothing was asked for."""
    asked, peak = row["memory_asked_bytes"], row["memory_peak_bytes"]
    if not asked or not peak or fitting_memory(peak) > LEAST_GAIN * asked:
        return ""
    return f"asks for {gib(asked)}, uses {gib(peak)} at its peak"


def _where(job: Mapping[str, Any]) -> str:
    tries = f"{job['attempt']} attempts, the last " if job["attempt"] > 1 else ""
    units = job["units"] / max(1, job["num_bundles"])
    times = f"x{job['num_bundles']}" if job["num_bundles"] > 1 else ""
    return f"{tries}on {job['flavor']}:{units:g}{times}{' twin' if job['twin'] else ''}" if job["flavor"] else "not started"


def _cpus(number: float) -> str:
    return "1 CPU" if number == 1 else f"{number:g} CPUs"


def _size(num_bytes: int) -> str:
    """As `memory=` reads it: `4GiB`, `384MiB`."""
    if num_bytes < 2**31 and num_bytes % 2**30:
        return f"{num_bytes >> 20}MiB"
    return f"{num_bytes / 2**30:g}GiB"


def _part(used: float, form: Mapping[str, Any]) -> float | None:
    return used / form["cost_usd"] if form["cost_usd"] else None


def _percent(frac: float | None) -> str:
    return "-" if frac is None else f"{100 * frac:.0f} %"
