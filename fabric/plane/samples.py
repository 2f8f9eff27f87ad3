"""The scheduler's state as samples of metrics: what queues and users hold and pay, quotas, and the pace of its own turns. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fabric.metrics import declared as m
from fabric.metrics.metric import Sample
from fabric.scheduler.core import Core
from fabric.scheduler.standing import HOUR_S

if TYPE_CHECKING:
    from fabric.plane.plane import JobPlane


def plane_samples(plane: JobPlane) -> list[Sample]:
    """All of the scheduler's metrics; holds its lock for as long as it takes to look at what runs, not at what waits."""
    driver, now_s = plane.driver, plane.clock.now_s()
    with driver.lock:
        found = [*plane.job_tally.samples(now_s), *held(plane.core), *quotas(plane.core), *budgets(plane.core, now_s)]
    found += [sample for pace in plane.paces for sample in pace.samples()]
    found.append(Sample(m.INBOX, (), driver.num_told))
    found.append(Sample(m.JOURNAL_LAG, (), driver.lag_s()))
    found.append(Sample(m.EPOCH, (), plane.epoch))
    return found


def held(core: Core) -> Iterator[Sample]:
    """What the jobs that hold a grant have, and what that costs."""
    units: defaultdict[tuple[str, str], float] = defaultdict(float)
    standing = core.book.standing
    queue_usd: dict[str, float] = dict.fromkeys(standing.queues, 0.0)
    user_usd: defaultdict[str, float] = defaultdict(float)
    for job in core.book.holding.values():
        if job.grant is None:
            continue
        option, queue, user = job.grant.option, job.spec.queue, job.spec.user
        units[queue, option.flavor] += option.units
        usd_per_h = standing.usd_per_s(option) * HOUR_S
        queue_usd[queue] = queue_usd.get(queue, 0.0) + usd_per_h
        user_usd[user] += usd_per_h
    for (queue, flavor), amount in units.items():
        yield Sample(m.QUEUE_UNITS, (queue, core.book.catalogue[flavor].tier, flavor), amount)
    yield from (Sample(m.QUEUE_USD, (queue,), usd) for queue, usd in queue_usd.items())
    yield from (Sample(m.USER_USD, (user,), usd) for user, usd in user_usd.items())


def quotas(core: Core) -> Iterator[Sample]:
    """Of queues that have one."""
    for queue, cohort in core.book.standing.quotas.cohorts.items():
        for selector, line in cohort.queues[queue].items():
            labels = (queue, selector)
            yield Sample(m.QUOTA_NOMINAL, labels, line.nominal)
            yield Sample(m.QUOTA_HELD, labels, line.held)
            yield Sample(m.QUOTA_BORROWED, labels, max(0.0, line.held - line.nominal))


def budgets(core: Core, now_s: float) -> Iterator[Sample]:
    """Of queues that have one."""
    standing = core.book.standing
    for name, queue in standing.queues.items():
        if queue.budget_usd is not None:
            yield Sample(m.QUEUE_BUDGET_LEFT, (name,), queue.budget_usd - standing.spent_usd(name, now_s))
