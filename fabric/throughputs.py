"""Reads Gavel's throughput tables (OSDI'20, stanford-futuredata/gavel): what simulations replay and what predictions learn from.

A table is `{device: {"('job type', accelerators)": {"null": steps per second alone, …}}}`; 0 where the job cannot run. What jobs make of a
device that they share is not read.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fabric.errors import ConfigError, UnknownNameError
from fabric.text_file import read_text

Throughputs = Mapping[tuple[str, str, int], float]
"""(device, job type, accelerators) -> steps per second alone."""


def read_throughputs(path: Path, devices: Sequence[str] | None = None) -> Throughputs:
    """Rows of jobs that run alone on `devices` (None: on all). Raises: ConfigError, UnknownNameError `unknown_device`."""
    try:
        table = json.loads(read_text(path, "throughput table"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path.name} is not JSON: {error}", code="bad_throughputs", hint="see `fabric simulate --help`") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path.name} must be a mapping of devices", code="bad_throughputs", hint="{device: {row: {null: rate}}}")
    found: dict[tuple[str, str, int], float] = {}
    for device in table if devices is None else devices:
        if device not in table:
            raise UnknownNameError.of("device", device, table)
        if not isinstance(table[device], dict):
            raise ConfigError(
                f"{path.name}: {device} must be a mapping of rows", code="bad_throughputs", hint="{device: {row: {null: rate}}}"
            )
        for key, row in table[device].items():
            found[(device, *_row_name(path, key))] = _rate(path, device, key, row)
    return found


def _row_name(path: Path, key: str) -> tuple[str, int]:
    try:
        job_type, gpus = ast.literal_eval(key)
        return str(job_type), int(gpus)
    except (ValueError, SyntaxError, TypeError):
        raise ConfigError(
            f"{path.name}: {key!r} is not ('job type', accelerators)", code="bad_throughputs", hint="as Gavel writes it"
        ) from None


def _rate(path: Path, device: str, key: str, row: object) -> float:
    rate = row.get("null") if isinstance(row, dict) else None
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < float("inf"):
        message = f"{path.name}: {device} {key} has no number of steps per second under null"
        raise ConfigError(message, code="bad_throughputs", hint="a rate is a finite number, 0 where it cannot run")
    return float(rate)
