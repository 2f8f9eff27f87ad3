"""Reads a trace as plain CSV with a header.

Columns: `name`, `arrival_s`, `gpus`, and for each flavor that can run the job either `<flavor>_s` (how long it takes there) or
`<flavor>_rate` (work per second) together with `work`. An empty cell: it cannot run there. Optional: `queue`, `user`, `class`,
`family`, `deadline_s` (seconds after the trace's start, as arrivals are), and `shape` in place of `gpus` (`4x2`: four on each of two
nodes; `2-8`: elastic). `gpus` n is a gang of n single accelerators on any nodes of one flavor.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from fabric.errors import FabricError, UnknownNameError
from fabric.job import Shape
from fabric.selectors import parse_gpus
from fabric.sim.trace import TraceJob, bad_line, number_of

PLAIN = ("name", "arrival_s", "gpus", "shape", "work", "queue", "user", "class", "family", "deadline_s")
RATE, SECONDS = "_rate", "_s"


def read_csv(path: Path, text: str, devices: list[str]) -> list[TraceJob]:
    """The jobs, in the order of the file. Raises: ConfigError `bad_trace`, UnknownNameError `unknown_column`, `unknown_device`."""
    reader = csv.DictReader(io.StringIO(text))
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    _check_header(path, columns, devices)
    jobs: list[TraceJob] = []
    for row in reader:
        line = reader.line_num
        if None in row or any(value is None for value in row.values()):
            raise bad_line(path, line, f"not the {len(columns)} fields of the header")
        jobs.append(_job(path, line, len(jobs), {name: value.strip() for name, value in row.items()}, devices))
    return jobs


def _check_header(path: Path, columns: list[str], devices: list[str]) -> None:
    flavors = {name.removesuffix(end) for name in columns for end in (RATE, SECONDS) if name.endswith(end) and name not in PLAIN}
    for name in columns:
        if name not in PLAIN and not name.endswith((RATE, SECONDS)):
            raise UnknownNameError.of("column", name, PLAIN)
    for name in ("name", "arrival_s"):
        if name not in columns:
            raise bad_line(path, 1, f"the column {name} is missing", f"columns: {', '.join(PLAIN)}, <flavor>_s, <flavor>_rate")
    if "gpus" not in columns and "shape" not in columns:
        raise bad_line(path, 1, "there is neither a column gpus nor a column shape")
    if any(name.endswith(RATE) for name in columns) and "work" not in columns:
        raise bad_line(path, 1, "rates need a column work", "or give durations: <flavor>_s")
    for device in devices:
        if device not in flavors:
            raise UnknownNameError.of("device", device, flavors)


def _job(path: Path, line: int, number: int, row: dict[str, str], devices: list[str]) -> TraceJob:
    work = number_of(path, line, "work", row["work"], is_open=True) if row.get("work") else 1.0
    rates: dict[str, float] = {}
    for device in devices:
        if text := row.get(device + RATE):
            rates[device] = number_of(path, line, device + RATE, text)
        elif text := row.get(device + SECONDS):
            rates[device] = work / number_of(path, line, device + SECONDS, text, is_open=True)
    rates = {device: rate for device, rate in rates.items() if rate > 0}
    if not rates:
        raise bad_line(
            path, line, "no flavor of the cluster can run it", f"fill <flavor>_s or <flavor>_rate for one of {', '.join(devices)}"
        )
    arrival_s = number_of(path, line, "arrival_s", row["arrival_s"])
    deadline_s = number_of(path, line, "deadline_s", row["deadline_s"]) if row.get("deadline_s") else None
    name = row["name"] or f"{number}"
    return TraceJob(
        number,
        name,
        row.get("family") or name,
        _shape(path, line, row),
        work,
        arrival_s,
        rates,
        deadline_s,
        row.get("queue") or "default",
        row.get("user") or "trace",
        row.get("class") or "",
    )


def _shape(path: Path, line: int, row: dict[str, str]) -> Shape:
    if text := row.get("shape"):
        try:
            return parse_gpus(text, cpus=0.0)
        except FabricError as error:
            raise bad_line(path, line, error.message, error.hint or "") from None
    gpus = number_of(path, line, "gpus", row.get("gpus") or "1", least=1)
    if gpus != int(gpus):
        raise bad_line(path, line, f"gpus must be a whole number, not {row['gpus']}")
    return Shape("", 1, cpus=0.0, num_bundles=int(gpus))
