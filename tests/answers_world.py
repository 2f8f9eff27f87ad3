"""A desk whose jobs run as soon as they are launched, and what the job plane answers about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabric.job import JobId, JobSpec
from fabric.job_events import JobStarted
from fabric.job_form import JobView
from fabric.plane import answers
from fabric.plane.views import Aside, view_of
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from tests.jobs import Desk

NO_TWINS: frozenset[str] = frozenset()


class Plane(Desk):
    """`explain("job")`, `plan(spec, run_s)`: the forms that the API would answer."""

    def submit_and_start(self, *specs: JobSpec, run_s: float | None = None) -> None:
        self.submit(*specs, run_s=run_s)
        self.start()

    def start(self) -> None:
        """What was launched runs."""
        for launch in self.launched:
            if self.state(launch.job_id) == "ADMITTED":
                self.tell(JobStarted(launch.job_id, launch.attempt))

    def view(self, job: JobRecord) -> JobView:
        return view_of(self.core, job, Aside({"asks": "", "command": ""}), NO_TWINS, self.now_s)

    def explain(self, name: str, story: Sequence[Mapping[str, Any]] = (), **options: Any) -> dict[str, Any]:
        return answers.explanation(self.core, self.core.jobs[JobId(name)], self.view, story, NO_TWINS, self.now_s, **options)

    def changes(self, name: str) -> dict[str, dict[str, Any]]:
        """Its counterfactuals by their words."""
        return {each["change"]: each for each in self.explain(name)["counterfactuals"]}


def snapshot(core: Core) -> list[str]:
    """All that decides, in words: equal where a core will go on in the same way."""
    book, admission = core.book, core.admission
    lines = [f"now {book.now_s} {sorted(book.holding)} {sorted(book.timers)} {book.facts} {book.commands} {book.changes}"]
    lines += [f"{job.group is not None} {job!r}" for job in book.jobs.values()]
    lines += [f"{node.node_id} {sorted(node.free.items())}" for node in book.machines.nodes.values()]
    lines += [f"{name} {cohort!r}" for name, cohort in book.standing.quotas.cohorts.items()]
    lines += [f"{leaf.queue} {leaf.cls.name} {leaf.num} {leaf.mean_wait_s} {leaf.flavors}" for leaf in book.backlog.leaves]
    lines += [f"{group.key} {group.why} {group.detail} {group.num}" for leaf in book.backlog.leaves for group in leaf.groups.values()]
    lines += [f"{admission.claims} {admission.idle} {admission.holds.rooms} {admission.holds.quotas} {admission.wake_s}"]
    lines += [f"{book.freed_flavors} {book.freed_queues} {book.freed_cohorts} {book.broke} {book.budget_timers}"]
    return lines
