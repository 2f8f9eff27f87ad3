"""Published tables of throughputs as rows for `profiler.transfer`: Gavel's and MLPerf Inference's.

A row is the time that one accelerator (one gang, of several) takes for one step or sample. What could not run, gives no figure or did other
work than the rest (MLPerf's open division) is left out.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from fabric.errors import ConfigError
from fabric.text_file import read_text
from fabric.throughputs import Throughputs
from profiler.transfer import Row

STEP_LOG_SD = 0.02
"""Of a figure of Gavel's table: a mean of many steps."""
SUBMISSION_LOG_SD = 0.05
"""Of one MLPerf submission against another with the same card and model: the median spread in v1.0."""
GAVEL_DTYPE = "fp32"
MLPERF_DTYPE = "int8"
MLPERF_COLUMNS = ("division", "accelerator", "accelerators_per_node", "nodes", "model", "scenario", "samples_per_s")
SAME_MODEL = {"resnet": "resnet50", "resnet-50": "resnet50", "ssd-small": "ssd-mobilenet", "ssd-large": "ssd-resnet34"}
_BATCH = re.compile(r"(?P<family>.*) \(batch size (?P<size>\d+)\)")
_SLICES = re.compile(r"(?P<card>.*) \((?P<count>\d+)x(?P<slice>[^ )]+) MIG\)")
_ACCURACY = re.compile(r"-99(\.9)?$")


class Result(NamedTuple):
    """One MLPerf submission: samples per second of one accelerator, or of one slice of it, named `card slice`."""

    accelerator: str
    model: str
    samples_per_s: float


def gavel_row(job_type: str, flavor: str, rate: float, *, gpus: int = 1) -> Row:
    """`rate`: steps per second of the gang. Gangs of another size are another family: they scale by their links as well."""
    found = _BATCH.fullmatch(job_type)
    family, log_size = (found["family"], math.log(int(found["size"]))) if found else (job_type, None)
    gang = "" if gpus == 1 else f" x{gpus}"
    return Row(job_type + gang, family + gang, flavor, -math.log(rate), 1, log_size, GAVEL_DTYPE, STEP_LOG_SD)


def gavel_rows(throughputs: Throughputs) -> list[Row]:
    """Every job type that can run on a device; the device's name is taken for the flavor's."""
    return [gavel_row(job_type, device, rate, gpus=gpus) for (device, job_type, gpus), rate in throughputs.items() if rate > 0]


def read_mlperf(path: Path) -> list[Result]:
    """The closed division's Offline figures on accelerators, from a CSV of results with a header.

    Raises: ConfigError `no_such_file`, `unreadable_file`, `bad_table` with the line's number.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, "table of results")))
    lacking = [name for name in MLPERF_COLUMNS if name not in (reader.fieldnames or ())]
    if lacking:
        raise ConfigError(f"{path.name} has no column {lacking[0]}", code="bad_table", hint=f"columns: {', '.join(MLPERF_COLUMNS)}")
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ConfigError(f"{path.name} is not CSV: {error}", code="bad_table", hint="one line per result, commas between") from None
    found = (_result(path, line, row) for line, row in rows)
    return [result for result in found if result is not None]


def mlperf_rows(results: Iterable[Result], flavor_of: Callable[[str], str | None] = str) -> list[Row]:
    """One row per model and flavor, the median of its submissions. `flavor_of`: an accelerator's flavor by its name; None leaves it out."""
    figures: dict[tuple[str, str], list[float]] = {}
    for result in results:
        if (flavor := flavor_of(result.accelerator)) is not None:
            figures.setdefault((result.model, flavor), []).append(-math.log(result.samples_per_s))
    return [
        Row(model, _ACCURACY.sub("", model), flavor, statistics.median(logs), len(logs), None, MLPERF_DTYPE, SUBMISSION_LOG_SD)
        for (model, flavor), logs in figures.items()
    ]


def _result(path: Path, line: int, row: dict[str, str | None]) -> Result | None:
    if any(row[name] is None for name in MLPERF_COLUMNS):
        raise _bad(path, line, "has fewer fields than the header")
    cells = {name: (row[name] or "").strip() for name in MLPERF_COLUMNS}
    if cells["division"] != "closed" or cells["scenario"].lower() != "offline" or not cells["samples_per_s"]:
        return None
    rate, num = _number(path, line, "samples_per_s", cells), _number(path, line, "accelerators_per_node", cells)
    num *= _number(path, line, "nodes", cells)
    if rate <= 0 or num <= 0:
        return None
    card, count = cells["accelerator"], 1
    if found := _SLICES.fullmatch(card):
        card, count = f"{found['card']} {found['slice']}", int(found["count"])
    model = cells["model"].lower()
    return Result(card, SAME_MODEL.get(model, model), rate / (num * count))


def _number(path: Path, line: int, name: str, cells: dict[str, str]) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise _bad(path, line, f"{name} is not a number of at least 0: {cells[name]!r}")
    return value


def _bad(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError(f"{path.name} line {line}: {message}", code="bad_table", hint="mend the line or take it out", line=line)
