"""Reads Gavel's traces (OSDI'20, stanford-futuredata/gavel).

A trace line has ten fields, separated by tabs: job type, command, directory, steps argument, needs data, total steps, accelerators
(scale factor), priority weight, deadline as a multiple of the time on a V100 (-1: none), arrival in seconds. A job of n accelerators
is a gang of n bundles of one each, on any nodes of one flavor, as in Gavel's simulator. The priority weight is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fabric.errors import ConfigError, nearest_hint
from fabric.job import Shape
from fabric.sim.trace import TraceJob, bad_line, number_of
from fabric.throughputs import Throughputs

NUM_FIELDS = 10
DEADLINE_FLAVOR = "v100"


def is_gavel(text: str) -> bool:
    """Whether the first line has the ten tab-separated fields."""
    return text.split("\n", 1)[0].count("\t") == NUM_FIELDS - 1


def read_gavel(path: Path, text: str, throughputs: Throughputs, devices: list[str]) -> list[TraceJob]:
    """The jobs of a trace, as it stands in `text`. Raises: ConfigError `bad_trace` or `no_throughput`, with the line's number."""
    lines = text.splitlines()
    return [_job(path, number, line, throughputs, devices) for number, line in enumerate(lines) if line.strip()]


def _job(path: Path, number: int, line: str, throughputs: Throughputs, devices: list[str]) -> TraceJob:
    fields = line.split("\t")
    if len(fields) != NUM_FIELDS:
        raise bad_line(path, number + 1, f"{len(fields)} fields instead of {NUM_FIELDS}", "they are separated by tabs")
    job_type = fields[0]
    steps = number_of(path, number + 1, "total steps", fields[5], is_open=True)
    gpus = number_of(path, number + 1, "accelerators", fields[6], least=1)
    if gpus != int(gpus):
        raise bad_line(path, number + 1, f"accelerators must be a whole number, not {fields[6]}")
    factor = number_of(path, number + 1, "deadline", fields[8], least=float("-1e9"))
    arrival_s = number_of(path, number + 1, "arrival", fields[9])
    rates = {device: throughputs.get((device, job_type, int(gpus)), 0.0) for device in devices}
    rates = {device: rate for device, rate in rates.items() if rate > 0}
    if not rates:
        raise _no_row(path, number + 1, job_type, int(gpus), throughputs)
    shape = Shape("", 1, cpus=0.0, num_bundles=int(gpus))
    deadline_s = arrival_s + factor * steps / _deadline_rate(rates) if factor > 0 else None
    return TraceJob(number, f"{number}", job_type, shape, steps, arrival_s, rates, deadline_s)


def _deadline_rate(rates: Mapping[str, float]) -> float:
    """Gavel's deadlines are multiples of V100 time; where there is none, of the fastest."""
    return rates.get(DEADLINE_FLAVOR) or max(rates.values())


def _no_row(path: Path, line: int, job_type: str, gpus: int, throughputs: Throughputs) -> ConfigError:
    sizes = sorted({row[2] for row in throughputs if row[1] == job_type})
    known = {row[1] for row in throughputs}
    hint = f"it has rows for {', '.join(map(str, sizes))} accelerators" if sizes else nearest_hint(job_type, known)
    message = f"{path.name} line {line}: no device has a throughput for {job_type!r} on {gpus} accelerators"
    return ConfigError(message, code="no_throughput", hint=hint, line=line)
