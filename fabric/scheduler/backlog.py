"""Who waits: the pending jobs of every (queue, class), grouped by what they ask for.

Jobs of one group ask for the same, so that one refusal stands for all of them until something changes. Invariant: a job
is in at most one group with its current ticket; older places in the heaps are stale and skipped.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fabric.job import JobId
from fabric.policy import PriorityClass
from fabric.scheduler.record import JobRecord

Key = tuple[object, ...]
Place = tuple[float, float, JobId, int]
"""(rank, submitted, job, ticket): who is first in a group."""
EPSILON = 1e-6
MEAN_OF = 20.0
"""A class's mean wait is that of about so many of its last starts."""


@dataclass(slots=True, eq=False)
class Group:
    """`why` is the code for which its jobs wait, empty while that is open; `flavors`, and the least `units` of them, what they
    ask for. `is_for_room`, `is_for_quota`: what may end its waiting."""

    leaf: Leaf
    key: Key
    flavors: tuple[str, ...]
    units: float
    heap: list[Place] = field(default_factory=list)
    num: int = 0
    why: str = ""
    detail: str = ""
    is_for_room: bool = False
    is_for_quota: bool = False
    cohort: str = ""


@dataclass(slots=True, eq=False)
class Leaf:
    """The backlog of one class in one queue. `ages`: its jobs, oldest first; `flavors`: what they can use."""

    queue: str
    cls: PriorityClass
    lane: Lane
    groups: dict[Key, Group] = field(default_factory=dict)
    open: set[Group] = field(default_factory=set)
    ages: list[tuple[float, JobId]] = field(default_factory=list)
    flavors: Counter[str] = field(default_factory=Counter)
    num: int = 0
    mean_wait_s: float = 0.0

    def has_started(self, waited_s: float) -> None:
        self.mean_wait_s += (waited_s - self.mean_wait_s) / MEAN_OF


@dataclass(slots=True, eq=False)
class Lane:
    """The classes of equal value in one queue."""

    queue: str
    value: int
    leaves: dict[str, Leaf] = field(default_factory=dict)

    def rivals(self, leaf: Leaf) -> list[tuple[str, Counter[str]]]:
        """The other classes that have jobs waiting, with the flavors that those can use."""
        return [(other.cls.name, other.flavors) for other in self.leaves.values() if other is not leaf and other.num]


def reason(job: JobRecord) -> tuple[str, str]:
    """Why a job waits, as (code, detail): its own reason, else that of the group it stands in."""
    if not job.why and isinstance(job.group, Group):
        return job.group.why, job.group.detail
    return job.why, job.detail


class Backlog:
    """`jobs`: all records of the core. `ready`: lanes with a group that is not known to be blocked."""

    def __init__(self, jobs: dict[JobId, JobRecord]) -> None:
        self.jobs = jobs
        self.lanes: dict[tuple[str, int], Lane] = {}
        self.ready: dict[Lane, None] = {}
        self.num_waiting = 0
        self.contested: frozenset[str] = frozenset()
        """The flavors that jobs of more than one queue wait for."""
        self._wanted: dict[str, Counter[str]] = {}
        self._for_room: dict[str, dict[Group, None]] = {}
        self._for_quota: dict[str, dict[Group, None]] = {}

    @property
    def leaves(self) -> Iterator[Leaf]:
        return (leaf for lane in self.lanes.values() for leaf in lane.leaves.values())

    def push(self, job: JobRecord, cls: PriorityClass, key: Key) -> Leaf | None:
        """Queue a job. Returns its leaf where it is the first one there."""
        leaf = self._leaf(job.spec.queue, cls)
        is_first, last = leaf.num == 0, job.group
        self.drop(job)
        group = leaf.groups.get(key)
        if group is None:
            flavors = tuple(dict.fromkeys(way.flavor for way in job.ways))
            group = leaf.groups[key] = Group(leaf, key, flavors, min((way.units for way in job.ways), default=0.0))
            leaf.open.add(group)
        if not group.why:
            self.ready[leaf.lane] = None
        job.ticket += 1
        job.group = group
        self._count(group, 1)
        heapq.heappush(group.heap, (job.rank, job.spec.submitted_s, job.spec.job_id, job.ticket))
        if len(group.heap) > 2 * group.num + 64:
            self._forget_stale(group)
        if not isinstance(last, Group) or last.leaf is not leaf:
            heapq.heappush(leaf.ages, (job.spec.submitted_s, job.spec.job_id))
        return leaf if is_first else None

    def drop(self, job: JobRecord) -> None:
        """Take a job out (it started, moved to another group, or is no more)."""
        if isinstance(job.group, Group):
            self._count(job.group, -1)
            job.ticket += 1
            job.group = None

    def head(self, group: Group) -> JobRecord | None:
        """The first job of a group; an empty group is forgotten."""
        heap = group.heap
        while heap:
            job = self.jobs.get(heap[0][2])
            if job is not None and job.ticket == heap[0][3] and job.group is group:
                return job
            heapq.heappop(heap)
        self._unblock(group)
        group.leaf.groups.pop(group.key, None)
        group.leaf.open.discard(group)
        return None

    def first(self, leaf: Leaf) -> JobRecord | None:
        """The first job of a leaf's open groups, by rank, then age."""
        best: Place | None = None
        for group in tuple(leaf.open):
            if self.head(group) is not None and (best is None or group.heap[0] < best):
                best = group.heap[0]
        return self.jobs[best[2]] if best is not None else None

    def oldest(self, leaf: Leaf) -> JobRecord | None:
        """The job of a leaf that was submitted first."""
        while leaf.ages:
            job = self.jobs.get(leaf.ages[0][1])
            if job is not None and isinstance(job.group, Group) and job.group.leaf is leaf:
                return job
            heapq.heappop(leaf.ages)
        return None

    # ---- blocked and open again

    def block(self, group: Group, why: str, detail: str, *, is_for_room: bool, is_for_quota: bool, cohort: str) -> None:
        """Nobody of this group can start until it is opened again. `cohort`: whose quota it lacks."""
        group.why, group.detail, group.is_for_room, group.is_for_quota = why, detail, is_for_room, is_for_quota
        group.cohort = cohort
        group.leaf.open.discard(group)
        if is_for_room:
            for flavor in group.flavors:
                self._for_room.setdefault(flavor, {})[group] = None
        if is_for_quota:
            self._for_quota.setdefault(cohort, {})[group] = None
            self._for_quota.setdefault(f"queue {group.leaf.queue}", {})[group] = None

    def open(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._open(group)

    def open_all(self) -> None:
        for leaf in self.leaves:
            self.open(leaf.groups.values())

    def open_for_room(self, flavor: str, units: float) -> None:
        """So many units of a flavor are free: look again at those whom they may do."""
        self.open([group for group in self._for_room.get(flavor, ()) if group.units <= units + EPSILON])

    def open_for_quota(self, cohort: str, units: float) -> None:
        """The same for a cohort's quota."""
        self.open([group for group in self._for_quota.get(cohort, ()) if group.units <= units + EPSILON])

    def open_queue(self, queue: str) -> None:
        """A queue's own jobs hold less: look again at all that wait for its quota, its users' limits or its budget."""
        self.open(list(self._for_quota.get(f"queue {queue}", ())))

    def _open(self, group: Group) -> None:
        if group.why:
            self._unblock(group)
            group.leaf.open.add(group)
            self.ready[group.leaf.lane] = None

    def _unblock(self, group: Group) -> None:
        group.why = ""
        if group.is_for_room:
            for flavor in group.flavors:
                self._for_room.get(flavor, {}).pop(group, None)
        if group.is_for_quota:
            for name in (group.cohort, f"queue {group.leaf.queue}"):
                self._for_quota.get(name, {}).pop(group, None)

    def _forget_stale(self, group: Group) -> None:
        group.heap = [place for place in group.heap if self._is_current(place, group)]
        heapq.heapify(group.heap)

    def _is_current(self, place: Place, group: Group) -> bool:
        job = self.jobs.get(place[2])
        return job is not None and job.ticket == place[3] and job.group is group

    # ---- counts

    def _leaf(self, queue: str, cls: PriorityClass) -> Leaf:
        lane = self.lanes.get((queue, cls.value))
        if lane is None:
            lane = self.lanes[queue, cls.value] = Lane(queue, cls.value)
        leaf = lane.leaves.get(cls.name)
        if leaf is None:
            leaf = lane.leaves[cls.name] = Leaf(queue, cls, lane)
        return leaf

    def _count(self, group: Group, sign: int) -> None:
        self.num_waiting += sign
        group.leaf.num += sign
        group.num += sign
        if group.num == (1 if sign > 0 else 0):
            for flavor in group.flavors:
                group.leaf.flavors[flavor] += sign
                if not group.leaf.flavors[flavor]:
                    del group.leaf.flavors[flavor]
                self._want(flavor, group.leaf.queue, sign)

    def _want(self, flavor: str, queue: str, sign: int) -> None:
        queues = self._wanted.setdefault(flavor, Counter())
        queues[queue] += sign
        if not queues[queue]:
            del queues[queue]
        if (len(queues) > 1) != (flavor in self.contested):
            self.contested = self.contested ^ {flavor}

    def waiting(self, leaf: Leaf) -> Iterator[JobRecord]:
        """All jobs of a leaf, in no order."""
        for group in leaf.groups.values():
            for _, _, job_id, ticket in group.heap:
                job = self.jobs.get(job_id)
                if job is not None and job.ticket == ticket and job.group is group:
                    yield job

    def all_waiting(self) -> Iterator[JobRecord]:
        for leaf in self.leaves:
            yield from self.waiting(leaf)
