"""What tasks asked for and used, summed up from measured runs. Pure.

Invariant: nothing is priced or judged here; who knows the nodes does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabric.types import Resources, Run
from profiler.estimate import TaskProfile


@dataclass(slots=True)
class TaskUse:
    """Alike runs, failed ones too: the same task, variant, flavor, node and user. `asked` is what its variant asks for now."""

    task: str
    variant: str
    flavor: str
    node_id: str
    user: str
    queue: str
    asked: Resources
    num_runs: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


def task_uses(runs: Iterable[Run], profiles: Mapping[str, TaskProfile]) -> list[TaskUse]:
    """The runs of variants that are still known, summed up."""
    found: dict[tuple[str, ...], TaskUse] = {}
    for run in runs:
        key = (run.task, run.variant, run.flavor, run.node_id, run.user, run.queue)
        use = found.get(key)
        if use is None:
            profile = profiles.get(run.task)
            variant = None if profile is None else profile.variants.get(run.variant)
            if variant is None:
                continue
            use = found[key] = TaskUse(*key, variant.resources)
        use.num_runs += 1
        use.wall_s += run.wall_s
        use.cpu_s += run.cpu_s
        use.peak_memory_bytes = max(use.peak_memory_bytes, run.peak_memory_bytes)
    return list(found.values())
