"""Jobs, nodes and cores of small fabrics, for the tests of the scheduler."""

from __future__ import annotations

from typing import Any

from fabric.job import JobEstimate, JobId, JobSpec, Shape
from fabric.job_events import JobEstimated, JobFact, JobSubmitted, Launch, NodesSeen
from fabric.policy import Policy
from fabric.scheduler.backlog import reason
from fabric.scheduler.core import Core, Decision
from fabric.types import Flavor, Node

A100 = Flavor("a100-80g", "hot", "gpu", "nvidia-tesla", "GPU", usd_per_h=3.6)
T4 = Flavor("t4", "warm", "gpu", "nvidia-tesla", "GPU", usd_per_h=0.36)
CPU = Flavor("cpu", "cold", "cpu", "x86", "CPU", usd_per_h=0.036)
CATALOGUE = {flavor.name: flavor for flavor in (A100, T4, CPU)}
GPU = Shape("any", accelerators=1)
BALANCED = """\
apiVersion: scheduling.example.com/v1
kind: HybridPolicy
metadata:
  name: cpu-memory-balanced
spec:
  priorityClasses:
    - name: gpu-intensive
      weight: 3
      nodeSelector:
        accelerator: nvidia-tesla
    - name: cpu-bound
      weight: 1
  fallbackStrategy: "best-effort"
"""


def machine(name: str, flavor: Flavor = A100, *, gpus: float = 4.0, cpus: float = 16.0, memory: float = 64e9, **kwargs: Any) -> Node:
    total = {"CPU": cpus, "memory": memory} | ({} if flavor.is_cpu else {flavor.resource: gpus})
    return Node(name, f"host-{name}", flavor.tier, flavor.name, total, **kwargs)


def spec(name: str, *shapes: Shape, queue: str = "default", priority: str = "", submitted_s: float = 0.0, **kwargs: Any) -> JobSpec:
    form = kwargs.pop("form", "program")
    user, family = kwargs.pop("user", "ann"), kwargs.pop("family", name)
    return JobSpec(JobId(name), name, user, queue, priority, form, shapes or (GPU,), family, submitted_s, **kwargs)


def estimate(run_s: float, flavors: tuple[str, ...] = tuple(CATALOGUE), log_sd: float = 0.0, num_shapes: int = 1) -> JobEstimate:
    """The same run time everywhere."""
    return JobEstimate(1.0, {(number, flavor): 1.0 / run_s for number in range(num_shapes) for flavor in flavors}, log_sd)


class Desk:
    """A core without an optimiser and the facts that were journalled on its behalf, in order."""

    def __init__(self, *nodes: Node, policy: Policy | None = None, is_planning: bool = False) -> None:
        self.core = Core(CATALOGUE, policy, is_planning=is_planning)
        self.now_s = 0.0
        self.launched: list[Launch] = []
        self.tell(NodesSeen(nodes))

    def tell(self, *facts: JobFact, at_s: float | None = None) -> Decision:
        self.now_s = self.now_s if at_s is None else at_s
        decision = self.core.handle(*facts, now_s=self.now_s)
        self.launched += [command for command in decision.commands if isinstance(command, Launch)]
        return decision

    def submit(self, *specs: JobSpec, run_s: float | None = None) -> Decision:
        facts: list[JobFact] = []
        for one in specs:
            facts.append(JobSubmitted(one, one.user))
            if run_s is not None:
                facts.append(JobEstimated(one.job_id, estimate(run_s, num_shapes=len(one.shapes))))
        return self.tell(*facts)

    def state(self, name: str) -> str:
        return self.core.jobs[JobId(name)].state.value

    def why(self, name: str) -> str:
        """The reason code of a waiting job, as a listing shows it."""
        return reason(self.core.jobs[JobId(name)])[0]

    def started(self) -> list[str]:
        """The jobs launched so far, in order."""
        return [launch.job_id for launch in self.launched]
