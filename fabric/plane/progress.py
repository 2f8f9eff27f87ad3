"""What jobs tell of themselves, turned into predictions: a job's own pace, and its family's history. Pure but for what it keeps."""

from __future__ import annotations

from fabric.job import JobEstimate, JobId
from fabric.job_events import JobEnded, JobProgressed
from fabric.plane.views import Aside
from fabric.scheduler.core import Core
from fabric.scheduler.ways import speed_up
from fabric.states import JobState
from profiler.families import Families

LEAST_S = 2.0
"""A pace is believed once it has been watched for so long."""
NEWS_FRAC = 0.1
"""A prediction is renewed when the pace differs by so much, or the total has changed."""
LEAST_WORK_FRAC = 0.1


class Progress:
    def __init__(self, families: Families) -> None:
        self._families = families
        self._first: dict[tuple[JobId, int], tuple[float, float]] = {}

    def estimate(self, core: Core, fact: JobProgressed) -> tuple[JobEstimate, bool] | None:
        """A new estimate for the job that told it, and whether others of its family are to be predicted anew; None where nothing new
        follows."""
        job = core.jobs.get(fact.job_id)
        if job is None or job.grant is None or job.estimate is None or job.state is not JobState.RUNNING or not fact.total:
            return None
        now_s, key = core.book.now_s, (fact.job_id, fact.attempt)
        first_s, first_done = self._first.setdefault(key, (now_s, fact.done))
        if now_s - first_s < LEAST_S or fact.done <= first_done:
            return None
        option = job.grant.option
        rate = (fact.done - first_done) / (now_s - first_s) / speed_up(job.spec.shapes[option.shape], option.num_bundles)
        here = job.estimate.rates.get((option.shape, option.flavor), 0.0)
        is_known = job.estimate.work == fact.total and abs(rate - here) <= NEWS_FRAC * here
        if is_known:
            return None
        is_news = self._families.hear(job.spec, option.shape, option.flavor, rate / fact.total)
        return self._families.from_progress(job.spec, job.estimate, option.shape, option.flavor, rate, fact.total), is_news

    def learn(self, core: Core, fact: JobEnded, aside: Aside) -> None:
        """An attempt has ended: what it needed of memory belongs to its family's history; the run time of one that succeeded in one
        go as well."""
        self._first.pop((fact.job_id, fact.attempt), None)
        job = core.jobs.get(fact.job_id)
        peak_bytes = fact.use.peak_memory_bytes if fact.use is not None else 0
        if job is not None and peak_bytes and fact.outcome in ("ok", "oom") and aside.option is not None:
            self._families.learn_memory(job.spec, aside.option.shape, peak_bytes, is_oom=fact.outcome == "oom")
        if job is None or job.attempt != fact.attempt or fact.outcome != "ok" or aside.option is None or aside.started_s is None:
            return
        if fact.attempt == 1:
            run_s = work_s(core.book.now_s - aside.started_s, core.book.policy.restart_s)
            self._families.learn(job.spec, aside.option.shape, aside.option.flavor, aside.option.num_bundles, run_s)


def work_s(run_s: float, restart_s: float) -> float:
    """What a measured run is learnt as: the scheduler adds `restart_s` to every run that it predicts, and what was measured has its start
    in it already. Of a run that is shorter than that a tenth is left."""
    return max(run_s - restart_s, LEAST_WORK_FRAC * run_s, 1e-3)
