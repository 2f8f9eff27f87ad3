"""Makes a trace of a fabric's journal: the jobs that succeeded, with what they were measured to take.

A job's seconds on the flavor that it ended on are its own; on other flavors they are scaled by what its family took there on average,
and where its family never ran it cannot run. Seconds of earlier attempts elsewhere count at the same ratio. Nothing is guessed: a job
that never succeeded, or was never seen to start, is left out and counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fabric import codec
from fabric.errors import UserError
from fabric.job import JobId, JobSpec, Option, Shape
from fabric.job_events import (
    JOURNALLED,
    JobClosed,
    JobDispatched,
    JobEnded,
    JobReprioritised,
    JobStarted,
    JobSubmitted,
    JobVacated,
    LeaseRefused,
)
from fabric.journal import Journal
from fabric.journal.log import Entry
from fabric.sim.trace import TraceJob
from fabric.types import Flavor
from pools.flavors import load_catalogue

STREAM = "jobs"
KINDS = ("JobSubmitted", "JobReprioritised", "JobDispatched", "JobStarted", "JobVacated", "JobEnded", "LeaseRefused", "JobClosed")
_Ending = JobEnded | JobVacated | LeaseRefused | JobClosed


@dataclass(slots=True)
class _Seen:
    """What the journal says of one job. `ran`: (flavor, seconds) of every attempt that started."""

    spec: JobSpec
    submitted_s: float
    option: Option | None = None
    started_s: float | None = None
    ran: list[tuple[str, float]] = field(default_factory=list)
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """`jobs`: in the order of submission, times from the first one's. `num_left_out`: not succeeded, or of unknown duration;
    `num_too_many`: submitted in the time asked for, before the newest that were read. `most_held`: flavor -> the most units that jobs
    held at once. `jct_h`, `makespan_s`: as it really went, of `jobs`."""

    jobs: list[TraceJob]
    num_left_out: int
    most_held: dict[str, int]
    jct_h: float
    makespan_s: float
    num_too_many: int = 0

    def within(self, flavors: Collection[str]) -> list[TraceJob]:
        """The jobs on a cluster of these flavors only. Raises: UserError `never_measured`."""
        found = []
        for job in self.jobs:
            rates = {flavor: rate for flavor, rate in job.rates.items() if flavor in flavors}
            if not rates:
                message = f"job {job.name} has never run on {' or '.join(flavors)}"
                raise UserError(message, code="never_measured", hint=f"its kind of job was measured on {', '.join(job.rates)}")
            found.append(replace(job, rates=rates))
        return found


def recorded(
    url: str,
    within_s: float,
    *,
    catalogue: Mapping[str, Flavor] | None = None,
    most_jobs: int | None = None,
    is_aside: bool = False,
) -> Recorded:
    """Of the journal at `url`, the jobs of the last `within_s` seconds before its newest one, the newest `most_jobs` of them.
    `catalogue`: the fabric's. `is_aside`: it lives, and must not wait for this. Raises: UserError `no_journal`."""
    path = url.removeprefix("sqlite:///")
    if path != url and not Path(path).exists():
        raise UserError(f"there is no journal at {path}", code="no_journal", hint="run it where the fabric's state is, or set journal_url")
    journal = Journal(url, is_reader=is_aside)
    newest = journal.newest(STREAM, "JobSubmitted", limit=1)
    if not newest:
        raise UserError("the journal has no jobs", code="no_journal", hint="`fabric submit` some first")
    since_s = newest[0].wall_s - within_s
    submitted = journal.newest(STREAM, "JobSubmitted", limit=most_jobs, since_s=since_s)
    entries = journal.entries(STREAM, submitted[-1].seq - 1, kinds=KINDS)
    found = read_journal(entries, load_catalogue() if catalogue is None else catalogue, since_s=since_s)
    num_all = journal.count(STREAM, "JobSubmitted", since_s=since_s) if len(submitted) == most_jobs else len(submitted)
    return replace(found, num_too_many=num_all - len(submitted))


def read_journal(entries: Iterable[Entry], catalogue: Mapping[str, Flavor], *, since_s: float = 0.0) -> Recorded:
    """`entries` of `KINDS`, oldest first; jobs submitted before `since_s` (wall clock) are left out."""
    seen: dict[JobId, _Seen] = {}
    held: dict[str, float] = defaultdict(float)
    most: dict[str, float] = defaultdict(float)
    for entry in entries:
        fact = codec.fact_of(JOURNALLED, entry.kind, entry.body)
        if isinstance(fact, JobSubmitted):
            if entry.wall_s >= since_s:
                seen[fact.spec.job_id] = _Seen(fact.spec, entry.wall_s)
        elif isinstance(fact, JobReprioritised):
            if (raised := seen.get(fact.job_id)) is not None:
                raised.spec = replace(raised.spec, priority=fact.priority)
        elif (job := seen.get(fact.job_id)) is not None:
            _note(job, fact, entry.wall_s, held)
            for flavor, units in held.items():
                most[flavor] = max(most[flavor], units)
    done = [job for job in seen.values() if job.ended_s is not None and job.ran]
    begin_s = min((job.submitted_s for job in done), default=0.0)
    jobs = _traced(done, catalogue, begin_s)
    stays = [(job.ended_s or 0.0) - job.submitted_s for job in done]
    return Recorded(
        jobs,
        len(seen) - len(done),
        {flavor: math.ceil(units) for flavor, units in most.items() if units > 0},
        sum(stays) / len(stays) / 3600 if stays else 0.0,
        max((job.ended_s or 0.0 for job in done), default=begin_s) - begin_s,
    )


def _note(job: _Seen, fact: JobDispatched | JobStarted | _Ending, wall_s: float, held: dict[str, float]) -> None:
    match fact:
        case JobDispatched():
            job.option = fact.grant.option
            held[job.option.flavor] += job.option.units
        case JobStarted():
            job.started_s = wall_s
        case _:
            if job.option is not None and job.ended_s is None:
                held[job.option.flavor] -= job.option.units
                # What an attempt did that ended by itself or was preempted counts; what was lost was done again.
                is_kept = isinstance(fact, JobVacated) or (isinstance(fact, JobEnded) and fact.outcome == "ok")
                if job.started_s is not None and is_kept:
                    job.ran.append((job.option.flavor, max(wall_s - job.started_s, 1e-3)))
            if isinstance(fact, JobEnded) and fact.outcome == "ok":
                job.ended_s = wall_s
            else:
                job.option = None
            job.started_s = None


def _traced(done: list[_Seen], catalogue: Mapping[str, Flavor], begin_s: float) -> list[TraceJob]:
    logs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for job in done:
        if len({flavor for flavor, _ in job.ran}) == 1:
            logs[job.spec.family][job.ran[0][0]].append(math.log(sum(seconds for _, seconds in job.ran)))
    means = {family: {flavor: sum(values) / len(values) for flavor, values in by.items()} for family, by in logs.items()}
    done = sorted(done, key=lambda job: job.submitted_s)
    lines = {job.spec.job_id: line for line, job in enumerate(done)}
    return [_trace_job(line, job, means.get(job.spec.family, {}), lines, catalogue, begin_s) for line, job in enumerate(done)]


def _trace_job(
    line: int, job: _Seen, means: Mapping[str, float], lines: Mapping[JobId, int], catalogue: Mapping[str, Flavor], begin_s: float
) -> TraceJob:
    spec, last = job.spec, job.ran[-1][0]
    own_s = 0.0
    for flavor, seconds in job.ran:
        known = flavor in means and last in means
        own_s += seconds * math.exp(means[last] - means[flavor]) if known else seconds
    times = {flavor: own_s * math.exp(mean - means[last]) for flavor, mean in means.items()} if last in means else {}
    times[last] = own_s
    asked = spec.shapes[job.option.shape] if job.option is not None else spec.shapes[0]
    return TraceJob(
        line,
        spec.name or spec.job_id,
        spec.family,
        _shape(asked, job.option, catalogue),
        1.0,
        job.submitted_s - begin_s,
        {flavor: 1.0 / seconds for flavor, seconds in times.items()},
        None if spec.deadline_s is None else spec.deadline_s - begin_s,
        spec.queue,
        spec.user,
        spec.priority,
        tuple(lines[other] for other in spec.after if other in lines),
    )


def _shape(asked: Shape, option: Option | None, catalogue: Mapping[str, Flavor]) -> Shape:
    """At the size that it had; processors and memory are left out: what they were beside accelerators is not in the journal."""
    num_bundles = option.num_bundles if option is not None else asked.num_bundles
    flavor = catalogue.get(option.flavor) if option is not None else None
    if asked.accelerators and not (flavor is not None and flavor.is_cpu):
        return Shape(asked.selector, asked.accelerators, 0.0, num_bundles=num_bundles, spread=asked.spread)
    cpus = max(1, math.ceil(max(asked.cpus, asked.accelerators)))
    return Shape(asked.selector or "cpu", cpus, 0.0, num_bundles=num_bundles, spread=asked.spread)
