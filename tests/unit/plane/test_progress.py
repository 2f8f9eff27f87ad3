"""What a job's run teaches about its family."""

from __future__ import annotations

import pytest

from fabric.job import JobId
from fabric.job_events import JobEnded, JobEstimated, JobProgressed, JobStarted, JobSubmitted
from fabric.plane.progress import Progress, work_s
from fabric.plane.views import Aside
from fabric.policy import Policy
from profiler.families import Families
from tests.jobs import CATALOGUE, Desk, machine, spec


@pytest.mark.parametrize(("run_s", "predicted_s"), [(10.0, 10.0), (3600.0, 3600.0), (2.0, 5.2)])
def test_a_run_is_predicted_as_it_was_measured_with_its_start_counted_once(run_s: float, predicted_s: float) -> None:
    desk, families = Desk(machine("a1"), policy=Policy(restart_s=5.0)), Families(CATALOGUE)
    for number in range(20):
        job_id, at_s = JobId(f"j{number}"), 10_000.0 * number
        desk.tell(at_s=at_s)
        desk.submit(spec(job_id), run_s=run_s)
        option = desk.launched[-1].grant.option
        desk.tell(JobStarted(job_id, 1), at_s=at_s)
        ended = JobEnded(job_id, 1, "ok")
        desk.tell(ended, at_s=at_s + run_s)
        Progress(families).learn(desk.core, ended, Aside(option=option, started_s=at_s))
    mine = spec("j0")
    rate = families.estimate(mine).rates[option.shape, option.flavor]
    assert 5.0 + 1.0 / rate == pytest.approx(predicted_s, rel=0.25)
    assert 5.0 + work_s(run_s, 5.0) == pytest.approx(predicted_s)
    measured = families.measured(mine, option.shape, option.flavor, option.num_bundles)
    assert measured is not None and measured.num_runs == 1
    assert 5.0 + measured.run_s == pytest.approx(predicted_s)
    assert (
        families.measured(mine, option.shape, "t4", 1) is None and families.measured(spec("j1", family="new"), 0, option.flavor, 1) is None
    )


def test_a_job_that_tells_its_pace_speaks_for_its_family_until_one_has_ended() -> None:
    desk, families = Desk(machine("a1"), policy=Policy(restart_s=0.0)), Families(CATALOGUE)
    mine, sibling, stranger = spec("a", family="train"), spec("b", family="train"), spec("c", family="other")
    desk.tell(JobSubmitted(mine, "ann"), JobEstimated(mine.job_id, families.estimate(mine)))
    desk.tell(JobStarted(mine.job_id, 1))
    before = families.estimate(stranger)
    progress = Progress(families)
    for at_s in (1.0, 4.0):
        fact = JobProgressed(mine.job_id, 1, 2.0 * at_s, 600.0)
        desk.tell(fact, at_s=at_s)
        progress.estimate(desk.core, fact)
    option = desk.launched[-1].grant.option
    heard = families.estimate(sibling)
    assert 1.0 / heard.rates[option.shape, option.flavor] == pytest.approx(300.0)
    assert families.estimate(stranger) == before
    families.learn(mine, option.shape, option.flavor, 1, 100.0)
    assert 1.0 / families.estimate(sibling).rates[option.shape, option.flavor] < 200.0
