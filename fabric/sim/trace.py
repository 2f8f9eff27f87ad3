"""What a trace says, whatever its format: jobs with their true work and true rates, in the order of its lines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fabric.errors import ConfigError
from fabric.job import Shape


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One job. `line`: its place among the trace's jobs, from 0. `rates`: flavor -> work per second at the shape's least size,
    only flavors that can run it. `deadline_s` is in the trace's own time, as `arrival_s` is. `family`: whose history predicts it.
    `after`: lines of jobs that must have ended well first.
    """

    line: int
    name: str
    family: str
    shape: Shape
    work: float
    arrival_s: float
    rates: Mapping[str, float]
    deadline_s: float | None = None
    queue: str = "default"
    user: str = "trace"
    priority: str = ""
    after: tuple[int, ...] = ()

    @property
    def gpus(self) -> int:
        """Accelerators (or vCPUs) at its least size."""
        return self.shape.accelerators * self.shape.num_bundles


def bad_line(path: Path, number: int, message: str, hint: str = "") -> ConfigError:
    """The error for line `number` (from 1, as editors count) of a trace."""
    return ConfigError(f"{path.name} line {number}: {message}", code="bad_trace", hint=hint or None, line=number)


def number_of(path: Path, line: int, name: str, text: str, *, least: float = 0.0, is_open: bool = False) -> float:
    """A finite number of at least `least` (more than it with `is_open`). Raises: ConfigError `bad_trace` naming the line."""
    try:
        value = float(text)
    except ValueError:
        raise bad_line(path, line, f"{name} must be a number, not {text!r}") from None
    if not math.isfinite(value) or value < least or (is_open and value <= least):
        raise bad_line(path, line, f"{name} must be {'more than' if is_open else 'at least'} {least:g}, not {text}")
    return value
