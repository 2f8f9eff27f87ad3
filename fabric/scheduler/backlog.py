"""Who waits: the pending jobs of every (queue, class), grouped by what they ask for.

Jobs of one group ask for the same, so that one refusal stands for all of them until something changes. Invariant: a job
is in at most one group with its current ticket; older places in the heaps are stale and skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fabric.job import JobId
from fabric.scheduler.record import JobRecord

Key = tuple[object, ...]


@dataclass(slots=True)
class Group:
    """`why` is the code for which its jobs wait, empty while that is open."""

    leaf: Leaf
    key: Key
    heap: list[tuple[float, float, JobId, int]] = field(default_factory=list)
    why: str = ""
    detail: str = ""


@dataclass(slots=True)
class Leaf:
    """The backlog of one class in one queue."""

    queue: str
    cls: str
    groups: dict[Key, Group] = field(default_factory=dict)
    open: set[Key] = field(default_factory=set)


def reason(job: JobRecord) -> tuple[str, str]:
    """Why a job waits, as (code, detail): its own reason, else that of the group it stands in."""
    if not job.why and isinstance(job.group, Group):
        return job.group.why, job.group.detail
    return job.why, job.detail


class Backlog:
    """`jobs`: all records of the core. `ready`: leaves with a group that is not known to be blocked."""

    def __init__(self, jobs: dict[JobId, JobRecord]) -> None:
        self.jobs = jobs
        self.leaves: dict[tuple[str, str], Leaf] = {}
        self.ready: set[tuple[str, str]] = set()
        self.num_waiting = 0

    def push(self, job: JobRecord, queue: str, cls: str, key: Key) -> None:
        self.drop(job)
        leaf = self.leaves.get((queue, cls))
        if leaf is None:
            leaf = self.leaves[(queue, cls)] = Leaf(queue, cls)
        group = leaf.groups.get(key)
        if group is None:
            group = leaf.groups[key] = Group(leaf, key)
            leaf.open.add(key)
        if not group.why:
            self.ready.add((queue, cls))
        job.ticket += 1
        job.group = group
        self.num_waiting += 1
        heapq.heappush(group.heap, (job.rank, job.spec.submitted_s, job.spec.job_id, job.ticket))

    def drop(self, job: JobRecord) -> None:
        """Take a job out (it started, moved to another group, or is no more)."""
        if job.group is not None:
            job.ticket += 1
            job.group = None
            self.num_waiting -= 1

    def head(self, group: Group) -> JobRecord | None:
        """The first job of a group; an empty group is forgotten."""
        heap = group.heap
        while heap:
            job = self.jobs.get(heap[0][2])
            if job is not None and job.ticket == heap[0][3] and job.group is group:
                return job
            heapq.heappop(heap)
        group.leaf.groups.pop(group.key, None)
        group.leaf.open.discard(group.key)
        return None

    def first(self, leaf: Leaf) -> tuple[JobRecord, Group] | None:
        """The first job of a leaf's open groups, by rank, then age."""
        best: tuple[tuple[float, float, JobId, int], JobRecord, Group] | None = None
        for key in tuple(leaf.open):
            group = leaf.groups[key]
            job = self.head(group)
            if job is not None and (best is None or group.heap[0] < best[0]):
                best = (group.heap[0], job, group)
        if best is None:
            self.ready.discard((leaf.queue, leaf.cls))
            return None
        return best[1], best[2]

    def block(self, group: Group, why: str, detail: str = "") -> None:
        """Nobody of this group can start until `reopen`."""
        group.why, group.detail = why, detail
        group.leaf.open.discard(group.key)

    def reopen(self, wanted: Callable[[Leaf, str], bool] | None = None) -> None:
        """Look again at the groups that waited; `wanted(leaf, why)` picks some of them."""
        for name, leaf in self.leaves.items():
            if len(leaf.open) == len(leaf.groups):
                continue
            for key, group in leaf.groups.items():
                if group.why and (wanted is None or wanted(leaf, group.why)):
                    group.why = ""
                    leaf.open.add(key)
                    self.ready.add(name)

    def waiting(self, leaf: Leaf) -> Iterator[JobRecord]:
        """All jobs of a leaf, in no order."""
        for group in leaf.groups.values():
            for _, _, job_id, ticket in group.heap:
                job = self.jobs.get(job_id)
                if job is not None and job.ticket == ticket and job.group is group:
                    yield job

    def all_waiting(self) -> Iterator[JobRecord]:
        for leaf in self.leaves.values():
            yield from self.waiting(leaf)
