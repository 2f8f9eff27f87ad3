"""The nouns of the job plane: what a job is, the ways in which it may run, and what is predicted of it.

All frozen. A job's *work* is counted in its own unit (steps, epochs, files); where nothing is known of it, the unit is
"the whole job" and `work` is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NewType

from fabric.types import Flavor

JobId = NewType("JobId", str)
"""A UUIDv7: unique across fabrics, sorted by the time of submission."""

Form = Literal["program", "ray-program", "callable"]
SCALING = 0.9
"""A job on n times the units runs n ** SCALING times as fast until it has been measured (own estimate, as AdaptDL's speed-up
curves begin)."""
FORMS: tuple[Form, ...] = ("program", "ray-program", "callable")
Outcome = Literal["ok", "error", "oom", "timeout", "lost", "cancelled", "budget"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to run: `num_bundles` alike processes on nodes of one flavor, all or none (a gang).

    `selector` names flavors as a variant does (name, family, kind, tier, or a model such as `A100`); empty means any.
    Figures are for one bundle. `max_bundles` above `num_bundles` makes it elastic. `spread` puts each bundle on a node
    of its own; otherwise bundles may share nodes, and one bundle never spans two.
    """

    selector: str = ""
    accelerators: int = 0
    cpus: float = 1.0
    memory_bytes: int = 0
    num_bundles: int = 1
    max_bundles: int = 0
    spread: bool = False

    def demand(self, flavor: Flavor) -> dict[str, float]:
        """What one bundle asks of a node of this flavor, by Ray's resource names."""
        demand = {"CPU": float(self.cpus), "memory": float(self.memory_bytes)}
        if self.accelerators and flavor.is_cpu:
            demand["CPU"] = max(float(self.cpus), float(self.accelerators))
        elif self.accelerators:
            demand[flavor.resource] = self.accelerators * flavor.units
        return {name: amount for name, amount in demand.items() if amount > 0}

    def sizes(self) -> tuple[int, ...]:
        """The numbers of bundles it may run with, smallest first: doublings of the least, and the most."""
        sizes, size, most = [], self.num_bundles, max(self.max_bundles, self.num_bundles)
        while size < most:
            sizes.append(size)
            size *= 2
        return (*sizes, most)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What was asked for, as far as deciding needs it. How to launch it is another document (`LaunchSpec`).

    `deadline_s` and `submitted_s` are wall-clock seconds since the epoch; `timeout_s` bounds one attempt. `family` is
    whose history predicts it. `after` must have succeeded first. `can_resume`: an attempt goes on from the last
    checkpoint; without it a preempted job starts from nothing.
    """

    job_id: JobId
    name: str
    user: str
    queue: str
    priority: str
    form: Form
    shapes: tuple[Shape, ...]
    family: str
    submitted_s: float
    deadline_s: float | None = None
    budget_usd: float | None = None
    after: tuple[JobId, ...] = ()
    timeout_s: float | None = None
    max_retries: int = 0
    can_resume: bool = False
    is_preemptible: bool = True
    array_id: JobId | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    memory_sum: str = ""
    """How its memory came about, where it was sized by what its family needed."""

    @property
    def is_movable(self) -> bool:
        """Whether a plan may take its lease for another's sake: not where all that it has done would be lost."""
        return self.is_preemptible and self.can_resume


class Option(NamedTuple):
    """One resolved way to run a job: shape number `shape` of its spec, on `flavor`, with `num_bundles` bundles.

    `units` is what it holds of the flavor's capacity: accelerators, or vCPUs on a CPU flavor. `rate` is work per second.
    """

    shape: int
    flavor: str
    num_bundles: int
    units: float
    rate: float


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """What is predicted of a job: total `work`, the doubt about it (standard deviation of its logarithm), and the rate
    (work per second) of shape number i on a flavor at its least size: `rates[(i, flavor)]`. A way without a rate
    cannot be taken."""

    work: float
    rates: Mapping[tuple[int, str], float]
    log_sd: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What an attempt holds, as decided: the way, and the node of each bundle (a node may come twice).

    `memory_factor` is how many times its shape's memory a bundle gets: more than 1 after an attempt ran out of it.
    """

    option: Option
    nodes: tuple[str, ...]
    memory_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class AttemptUse:
    """What an attempt asked for and what its processes used of it, as its runners measured; several can be added up.

    `wall_s` is from the start of its ranks to the end of all. CPU and accelerators are amounts × seconds, over all ranks. Memory
    is that of one rank: what it asked for (0: nothing), and the most that any rank used. GPU figures are None where nothing
    measured them: `gpu_busy_s` of the `gpu_seen_s` that were watched, memory of one card (`gpu_memory_bytes` is all that it has).
    """

    wall_s: float = 0.0
    cpu_asked_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    accelerator_asked_s: float = 0.0
    gpu_seen_s: float | None = None
    gpu_busy_s: float | None = None
    gpu_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None

    def and_then(self, later: AttemptUse) -> AttemptUse:
        """Both together: amounts add up, of memory the most counts."""
        return AttemptUse(
            self.wall_s + later.wall_s,
            self.cpu_asked_s + later.cpu_asked_s,
            self.cpu_s + later.cpu_s,
            max(self.memory_bytes, later.memory_bytes),
            max(self.peak_memory_bytes, later.peak_memory_bytes),
            self.accelerator_asked_s + later.accelerator_asked_s,
            _known_sum(self.gpu_seen_s, later.gpu_seen_s),
            _known_sum(self.gpu_busy_s, later.gpu_busy_s),
            _known_max(self.gpu_memory_bytes, later.gpu_memory_bytes),
            _known_max(self.peak_gpu_memory_bytes, later.peak_gpu_memory_bytes),
        )


def _known_sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


def _known_max(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How to start a job; deciding needs none of it.

    `command` is a shell command line (`program`, `ray-program`); `payload` the digest of a pickled (function, args,
    kwargs) (`callable`). `working_dir` is the digest of an archive in the artefact store. `checkpoint_dir`, relative to
    the working directory, is mirrored to the store when the job is preempted and brought back before the next attempt.
    `secrets` become environment variables and are shown nowhere.
    """

    form: Form
    command: str = ""
    payload: str = ""
    working_dir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    runtime_env: Mapping[str, object] = field(default_factory=dict)
    checkpoint_dir: str = "checkpoints"
    grace_s: float = 30.0
