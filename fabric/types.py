"""The nouns that every room shares: frozen values, units in their names, no behaviour beyond reading themselves.

Those that a ranking makes by the dozen are named tuples, which cost a third of a frozen dataclass to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_MODEL = "model:"


def name_of(task_key: str) -> str:
    """The name that people know a task by: its key, `name@hash of its code`, without the hash."""
    return task_key.rpartition("@")[0] or task_key


def model_task(model: str) -> str:
    """The key of the task under which a served model's runs are kept."""
    return f"{_MODEL}{model}"


def is_model_task(task: str) -> bool:
    """Whether a task's key is that of a served model."""
    return task.startswith(_MODEL)


Domain = Literal["cv", "nlp", "tabular", "other"]
Phase = Literal["training", "inference"]
NodeHealth = Literal["ready", "cordoned", "draining", "lost", "asleep"]

DOMAINS: tuple[Domain, ...] = ("cv", "nlp", "tabular", "other")
PHASES: tuple[Phase, ...] = ("training", "inference")
DEFAULT_TIERS = ("hot", "warm", "cold")

TIER_LABEL = "tier"
FLAVOR_LABEL = "flavor"
SLOWDOWN_LABEL = "twin-slowdown"
"""A twin node carries its slow-down factor in this label; its presence is what marks a node as a twin."""


@dataclass(frozen=True, slots=True)
class Flavor:
    """One kind of accelerator or CPU class. Every figure is for one unit: one accelerator or one vCPU.

    `usd_per_h` is None where no price is known (shown as `-`, never as 0). `peak_flops` maps a dtype
    (`fp32`, `fp16`, `int8`, …) to dense operations per second. `sources` names a document for every figure.
    """

    name: str
    tier: str
    kind: str
    family: str
    resource: str
    units: float = 1.0
    match: tuple[str, ...] = ()
    isa: tuple[str, ...] = ()
    memory_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    compute_capability: float | None = None
    tensor_cores: int | None = None
    peak_flops: Mapping[str, float] = field(default_factory=dict)
    usd_per_h: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        # Names are unique in a catalogue; the mappings have no hash of their own.
        return hash(self.name)

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    def answers_to(self, selector: str) -> bool:
        """Whether a variant's `flavor=` names this one: by name, family, kind or tier."""
        return selector in (self.name, self.family, self.kind, self.tier)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one call asks Ray for."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_bytes: int = 0
    custom: tuple[tuple[str, float], ...] = ()

    def as_demand(self) -> dict[str, float]:
        """Ray's resource names -> amounts, without zeros."""
        demand = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory_bytes), **dict(self.custom)}
        return {name: amount for name, amount in demand.items() if amount > 0}

    @property
    def uses_accelerator(self) -> bool:
        return self.num_gpus > 0 or any(amount > 0 for _, amount in self.custom)


@dataclass(frozen=True, slots=True)
class Variant:
    """One implementation of a task. `flavor` is a flavor's name, family, kind or tier; empty means any node.

    `code_hash` tells its versions apart: what was measured of other code says nothing of this one.
    """

    name: str
    flavor: str
    resources: Resources
    code_hash: str = ""
    auto: tuple[str, ...] = ()
    """The amounts (`memory`, `num_cpus`, `num_gpus`) that are sized by what earlier calls needed."""

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, slots=True)
class Device:
    """Something that discovery found on a machine: `count` alike accelerators, or its CPUs."""

    kind: str
    name: str
    count: int
    memory_bytes: int | None = None
    compute_capability: float | None = None
    tensor_cores: bool | None = None
    isa: tuple[str, ...] = ()
    resource: str = ""
    flavor: str | None = None
    mig: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """What a node agent measured on one machine, averaged over its last period. Fractions are 0..1."""

    cpu_frac: float
    memory_used_bytes: int
    memory_total_bytes: int
    gpu_frac: float | None = None
    gpu_memory_used_bytes: int | None = None
    gpu_memory_total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One Ray node as its pool sees it. `total` and `used` are Ray resources by Ray's names."""

    node_id: str
    host: str
    tier: str
    flavor: str
    total: Mapping[str, float]
    used: Mapping[str, float] = field(default_factory=dict)
    health: NodeHealth = "ready"
    slowdown: float | None = None
    usage: NodeUsage | None = None
    is_elastic: bool = False
    """Ray's autoscaler may take it away when nothing runs there."""
    is_resting: bool = False
    """Nothing has used it for a while: the fabric's own actors have left it, so that it may go."""
    node_type: str = ""
    """Its type in the cluster file, as Ray's autoscaler knows it; elsewhere a name of Ray's own."""
    wake_s: float = 0.0
    """Of a node that is `asleep`: about how long it takes to come, once work asks for it."""

    @property
    def is_twin(self) -> bool:
        return self.slowdown is not None


_ASLEEP = "asleep/"


def asleep_id(node_type: str, number: int) -> str:
    """What stands for the id of a node that is asleep."""
    return f"{_ASLEEP}{node_type}/{number}"


def asleep_type(node_id: str) -> str | None:
    """The type of a node that is asleep, by its id; None: the node is there."""
    return node_id.removeprefix(_ASLEEP).rpartition("/")[0] if node_id.startswith(_ASLEEP) else None


@dataclass(frozen=True, slots=True)
class Lease:
    """Resources of a pool held by one owner (a job, a served model) until it lets them go."""

    lease_id: str
    owner: str
    node_id: str
    demand: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A pool's ledger at one moment; `version` grows with every change of nodes or health (not of use). `asleep`: nodes that Ray's
    autoscaler would start for work that asks for them; each stands for one that is not there, and has no id of Ray's."""

    tier: str
    version: int
    nodes: tuple[Node, ...]
    leases: tuple[Lease, ...] = ()
    task_share: float = 1.0
    asleep: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What kind of work a task is, and the evidence for it, strongest first."""

    domain: Domain = "other"
    phase: Phase = "inference"
    evidence: tuple[str, ...] = ()


class Estimate(NamedTuple):
    """Predicted run time of one call on one flavor: median seconds and the standard deviation of its logarithm.

    `num_runs` is how many measured runs on that very flavor stand behind it (0: prior only).
    """

    run_s: float
    log_sd: float
    num_runs: int = 0
    peak_memory_bytes: int | None = None


class Forecast(NamedTuple):
    """Median and spread of log seconds: exp(mean_log) s, give or take a factor of exp(log_sd)."""

    mean_log: float
    log_sd: float


class Alternative(NamedTuple):
    """One (flavor, variant) of a route with its figures; `excluded` is the reason code where it cannot be taken."""

    flavor: str
    tier: str
    variant: str
    wait_s: float
    run_s: float
    cost_usd: float | None
    score: float
    estimate: Estimate
    is_twin: bool = False
    excluded: str | None = None
    detail: str = ""


class Offer(NamedTuple):
    """One way to run a replica. `kind`: `cpu`, or the kind of accelerator that it computes on. `usd_per_h`: of the share of a node that it
    takes, None where no price is known. `source`: `measured`, `roofline` or `domain`. `num_free`: replicas that fit now."""

    flavor: str
    tier: str
    kind: str
    resources: Resources
    estimate: Estimate
    source: str
    usd_per_h: float | None
    num_free: int
    label_selector: Mapping[str, str]
    is_preferred: bool = False
    is_borrowed: bool = False
    """On the host CPUs of an accelerator's node, which others may need."""
    is_twin: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """The choice for one call: the alternative taken, why, and all others, best first."""

    chosen: Alternative
    reason: str
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One measured call, as its worker saw it; one that was killed, as its node agent did.

    `peak_memory_bytes`: the most that its worker held meanwhile, without Ray's object store. `input_bytes` of its arguments (-1:
    unknown). `asked_bytes`: its request for memory (0: none). GPU figures are None where no card was given or it does not say;
    `card`: the index of the only one, of runs that were long enough to ask.
    """

    call_id: str
    task: str
    bucket: int
    variant: str
    flavor: str
    node_id: str
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    outcome: Literal["ok", "error", "oom", "timeout"] = "ok"
    user: str = ""
    queue: str = ""
    input_bytes: int = -1
    asked_bytes: int = 0
    num_page_faults: int = 0
    gpu_frac: float | None = None
    gpu_memory_bytes: int | None = None
    card: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a long-running replica goes, in Ray's own terms: first choice, then what Ray may fall back to."""

    tier: str
    flavor: str
    label_selector: Mapping[str, str]
    fallback_strategy: tuple[Mapping[str, Mapping[str, str]], ...] = ()
    is_twin: bool = False


def shown_bytes(num_bytes: float) -> str:
    """`3.1 GB`, `128 MB`, `4 KB`: two or three digits, in decimal units (as Ray's and clouds' figures are)."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if num_bytes >= 0.9995 * unit:
            value = num_bytes / unit
            return f"{value:.2g} {name}" if value < 9.95 else f"{value:.0f} {name}"
    return f"{num_bytes:.0f} B"
