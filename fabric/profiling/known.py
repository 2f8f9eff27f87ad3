"""Pure: what a fabric knows of tasks, and the report of one of them: nothing is run, and nobody is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabric.errors import UnknownNameError
from fabric.profiling.findings import Findings
from fabric.profiling.forecast import Situation, commonest, report
from fabric.types import Flavor, name_of
from profiler.estimate import TaskProfile
from profiler.roofline import Cost


@dataclass(frozen=True, slots=True)
class Stored:
    """`flavors`: those that the fabric has; `twins`: those of them that are stood in for."""

    profiles: tuple[TaskProfile, ...]
    flavors: tuple[str, ...]
    twins: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name_of(profile.task) for profile in self.profiles}))

    def find(self, name: str) -> TaskProfile | None:
        """The profile of the task with this name (or `name@hash`) that ran most often: changed code is another."""
        wanted = [profile for profile in self.profiles if name in (profile.task, name_of(profile.task))]
        return max(wanted, key=lambda profile: sum(seen.num_runs for seen in profile.measured.values()), default=None)

    def must_find(self, name: str) -> TaskProfile:
        """Raises: UnknownNameError (`unknown_task`)."""
        found = self.find(name)
        if found is None:
            raise UnknownNameError.of("task", name, self.names)
        return found


def cost_of(profile: TaskProfile) -> Cost | None:
    """What was counted of a call of the size that ran most often, where somebody did."""
    return profile.costs.get(commonest(profile))


def task_report(
    name: str, profile: TaskProfile, stored: Stored, catalogue: Mapping[str, Flavor], cost: Cost | None = None, *, num_cpus: int = 1
) -> dict[str, Any]:
    """The form of `fabric.profiling.report` of a task as `fabric profile TASK` gives it. `cost`: what one call of it computes and
    moves; left out: what was counted of a call of the commonest size. `num_cpus`: what it is given on a CPU flavor."""
    cost = cost or cost_of(profile)
    shown = tuple(flavor for flavor in stored.flavors if flavor in catalogue)
    return report(name, "task", Findings(cost=cost), Situation(catalogue, shown, num_cpus=num_cpus, stored=profile, twins=stored.twins))
