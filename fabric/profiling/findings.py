"""What a probe is asked to do, and what it finds: plain values that cross between its process and the command as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fabric.sizes import UNKNOWN
from fabric.types import Domain, Estimate, Fingerprint, Phase
from profiler.model_facts import ModelFacts
from profiler.roofline import Cost

_QUARTILES_PER_SD = 1.349

Outcome = Literal["ok", "timeout", "error", "oom", "skipped"]


@dataclass(frozen=True, slots=True)
class Order:
    """One probe. `args` is JSON, or `module:function` that makes the arguments. `repeats` 0: as many runs as `seconds_s` has room
    for. `num_cpus` bounds the threads of what runs."""

    kind: str
    name: str
    found: str
    """The file that findings are appended to, one JSON object a line."""
    is_run: bool = True
    is_trusted: bool = False
    batch: int = 1
    num_cpus: int = 1
    repeats: int = 0
    seconds_s: float = 2.0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    args: str = ""
    script_args: tuple[str, ...] = ()
    domain: Domain | None = None
    phase: Phase | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Runs on this machine. `walls_s`: seconds of each run, warm-up excluded where there were enough. `peak_memory_bytes`: resident
    memory of the process (of a script: of all its processes) at its highest; `base_memory_bytes`: before the target was loaded.
    `device`: the GPU that it used, by its own name."""

    outcome: Outcome = "skipped"
    walls_s: tuple[float, ...] = ()
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    base_memory_bytes: int | None = None
    device: str = ""
    device_memory_bytes: int | None = None
    num_cpus: int = 1
    problem: str = ""

    @property
    def estimate(self) -> Estimate | None:
        """Median and log sd of single runs; None without a run."""
        if not self.walls_s:
            return None
        logs = [math.log(max(wall_s, 1e-9)) for wall_s in self.walls_s]
        # By quartiles: one run that another program disturbed must not widen all.
        quartiles = statistics.quantiles(logs, n=4) if len(logs) > 3 else [0.0, 0.0, 0.2 * _QUARTILES_PER_SD]
        log_sd = (quartiles[2] - quartiles[0]) / _QUARTILES_PER_SD
        return Estimate(math.exp(statistics.median(logs)), max(log_sd, 0.01), len(logs), self.peak_memory_bytes)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error of the probe's, to be raised again by the command."""

    family: str
    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known after a probe; each part is None where the probe did not come so far."""

    fingerprint: Fingerprint | None = None
    facts: ModelFacts | None = None
    cost: Cost | None = None
    measured: Measured = Measured()
    problem: Problem | None = None
    library: str = ""
    """What of it can use an accelerator (`torch`, …); empty where nothing that is known can."""
    task_name: str = ""
    """Of a callable: the name that its task has in a fabric."""
    task_key: str = ""
    """Of a task (`@fabric.task`): its name and the hash of its code."""
    input_bytes: int = UNKNOWN
    """Of a callable: the size of its arguments (see `fabric.sizes`)."""
