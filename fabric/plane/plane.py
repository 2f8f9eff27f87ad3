"""The job plane: what the API calls. Every accepted job is on disk before `submit` returns.

Holds together the core and its driver, the journal, the runners, the optimiser and the families' history. Nothing here decides
where or when a job runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import IO, Any, Literal

from fabric import codec
from fabric.api.port import JobRef, LogPart, Submission
from fabric.artefacts import ArtefactStore, Digest
from fabric.errors import FabricError, RejectedError, UserError
from fabric.job import JobId, LaunchSpec
from fabric.job_events import (
    JobCancelRequested,
    JobCommand,
    JobEnded,
    JobEstimated,
    JobFact,
    JobProgressed,
    JobReprioritised,
    Kill,
    Launch,
    PlanSolved,
    Preempt,
    RunFact,
    Solve,
)
from fabric.job_form import JobView, job_json
from fabric.journal import Committer, Journal
from fabric.metrics.tally import Tally
from fabric.plane import answers
from fabric.plane.driver import STREAM, Driver, WallClock
from fabric.plane.efficiency import By
from fabric.plane.job_tally import JobTally
from fabric.plane.policies import Policies
from fabric.plane.progress import Progress
from fabric.plane.shelf import Shelf
from fabric.plane.siblings import Siblings
from fabric.plane.solver import Solver
from fabric.plane.submitting import Submitting, check_priority
from fabric.plane.under_way import UnderWay
from fabric.plane.views import Aside, leases_of
from fabric.ports import RunnerPort
from fabric.running.order import log_key, result_key
from fabric.scheduler.core import Core
from fabric.states import JobState
from fabric.stored_log import StoredLog, read_joined
from fabric.types import Flavor, Lease, Node
from profiler.efficiency import TaskUse
from profiler.families import Families
from profiler.sharing import SharingPace, shared_forecasts
from profiler.store import to_document

FAMILIES = "families"
LOG_BYTES = 1 << 20
TEND_S = 2.0
_log = logging.getLogger(__name__)


class JobPlane:
    """See `fabric.api.port.JobPlanePort` for the methods that the API calls. `start` begins to schedule. `task_uses` asks the
    profiler what tasks used (FabricError where it is away); `nodes` are all that were seen last, by id."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        store: ArtefactStore,
        clock: WallClock,
        epoch: int,
        *,
        asides: dict[JobId, Aside] | None = None,
        task_uses: Callable[[], Sequence[TaskUse]] = tuple,
    ) -> None:
        self.core = core
        self.epoch = epoch
        self.catalogue: Mapping[str, Flavor] = core.book.catalogue
        self.families = Families(self.catalogue)
        self.journal = journal
        self.store = store
        self.clock = clock
        self.shelf = Shelf(core, journal, clock, {} if asides is None else asides)
        self.nodes: Mapping[str, Node] = {}
        self._task_uses = task_uses
        self._committer = Committer(journal)
        self.driver = Driver(core, self._committer, self.perform, clock, self._note)
        self.job_tally = JobTally(core)
        self._sharing = SharingPace()
        self._solver = Solver(lambda plan, took_s: self.driver.tell(PlanSolved(plan, took_s)))
        self._under_way = UnderWay()
        self._submitting = Submitting(core, self.driver, journal, self._committer, self.families, self.shelf, clock, self._under_way)
        self._policies = Policies(core, self.driver, journal, self._committer, clock, self._under_way)
        self._runner: RunnerPort | None = None
        self._progress = Progress(self.families)
        self._siblings = Siblings(self.families, self.driver)
        self._closed = threading.Event()

    @property
    def paces(self) -> tuple[Tally, ...]:
        """How long turns and transactions take."""
        return (self.driver.pace, self._committer.pace)

    def start(self, runner: RunnerPort) -> None:
        self._runner = runner
        self.driver.start()
        threading.Thread(target=self._tend_loop, name="families", daemon=True).start()

    def close(self) -> None:
        """Stop scheduling; what runs goes on."""
        self._closed.set()
        self.driver.close()
        self._solver.close()
        self._committer.close()

    # ---- in

    def submit(self, submissions: Sequence[Submission], by: str) -> list[JobId]:
        return self._submitting.submit(submissions, by)

    def cancel(self, name_or_id: str, by: str) -> JobView:
        job_id = self.find(name_or_id).id
        self.driver.tell_and_wait(JobCancelRequested(job_id, by))
        return self.job(job_id)

    def set_priority(self, name_or_id: str, priority: str, by: str) -> JobView:
        with self.driver.lock:
            job = self.shelf.find(name_or_id)
            check_priority(self.core.book.policy, priority)
        if not job.state.is_final and job.spec.priority != priority:
            self.driver.tell_and_wait(JobReprioritised(job.spec.job_id, priority, by))
        if job.spec.priority != priority:  # it has ended, before this or meanwhile
            raise RejectedError(f"{job.spec.name} has ended: {job.state}", code="job_ended", hint="submit it again", state=job.state.value)
        return self.job(job.spec.job_id)

    def report(self, epoch: int, facts: Sequence[RunFact]) -> None:
        """What runners tell; taken and on disk when it returns. Raises: RejectedError (`attempt_over`; `stale_epoch`,
        retryable: a later scheduler exists, and the facts are its)."""
        if epoch > self.epoch:
            raise RejectedError(f"epoch {self.epoch} is over: {epoch} was seen", code="stale_epoch", retryable=True)
        for fact in facts:
            job = self.core.jobs.get(fact.job_id)
            if job is None or fact.attempt < job.attempt:
                raise RejectedError(f"attempt {fact.attempt} of {fact.job_id} is over", code="attempt_over")
        self.driver.tell_and_wait(*facts)

    def put(self, file: IO[bytes]) -> str:
        return self.store.put_open(file)

    def has(self, digest: str) -> bool:
        return self.store.has(Digest(digest))

    def policy_apply(self, document: str | Mapping[str, Any], by: str) -> int:
        return self._policies.apply(document, by)

    def policy_rollback(self, version: int | None, by: str) -> int:
        return self._policies.rollback(version, by)

    # ---- out

    def find(self, name_or_id: str) -> JobRef:
        with self.driver.lock:
            job = self.shelf.find(name_or_id)
            return JobRef(job.spec.job_id, job.spec.name, job.spec.user, job.spec.queue, job.state)

    def job(self, name_or_id: str) -> JobView:
        with self.driver.lock:
            job = self.shelf.find(name_or_id)
            return self.shelf.view(job, self.shelf.places() if job.state is JobState.PENDING else None)

    def jobs(
        self,
        *,
        queue: str | None = None,
        user: str | None = None,
        states: Collection[JobState] = (),
        array: str | None = None,
        limit: int = 1000,
    ) -> list[JobView]:
        with self.driver.lock:
            return self.shelf.listed(queue, user, states, array, limit)

    def wait(self, name_or_id: str, timeout_s: float) -> JobView:
        until_s = time.monotonic() + timeout_s
        with self.driver.changed:
            job = self.shelf.find(name_or_id)
            while not job.state.is_final and (left_s := until_s - time.monotonic()) > 0:
                self.driver.changed.wait(min(left_s, 1.0))
        return self.job(job.spec.job_id)

    def explain(self, name_or_id: str) -> Mapping[str, Any]:
        with self.driver.lock:
            job = self.shelf.find(name_or_id)
            story, now_s = self.story(job.spec.job_id), self.clock.now_s()
            return answers.explanation(
                self.core,
                job,
                self.shelf.view,
                story,
                self.shelf.twins,
                now_s,
                estimate_of=self.families.estimate,
                measured_of=self.families.measured,
            )

    def plan(self, submission: Submission) -> Mapping[str, Any]:
        spec, summary = self._submitting.sized(submission), dict(submission.summary)
        self._submitting.check(spec, {})
        if spec.memory_sum:
            summary["asks"] = f"{summary.get('asks', '')}, memory: {spec.memory_sum}"
        with self.driver.lock:
            estimate = self.families.estimate(spec)
            return answers.plan(self.core, spec, estimate, summary, self.shelf.twins, self.clock.now_s())

    def story(self, name_or_id: str) -> Sequence[Mapping[str, Any]]:
        job_id = self.find(name_or_id).id
        return [
            {"seq": entry.seq, "wall_s": entry.wall_s, "kind": entry.kind, "by": entry.body.get("by", "fabric"), "body": entry.body}
            for entry in self.journal.story(STREAM, job_id)
        ]

    def usage(self, by: Literal["user", "queue"]) -> Sequence[Mapping[str, Any]]:
        with self.driver.lock:
            return answers.usage_rows(self.core, by, self.clock.now_s())

    def efficiency(self, by: By, user: str | None = None) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        try:
            uses, problem = self._task_uses(), None
        except FabricError as error:
            uses, problem = (), error.message
        with self.driver.lock:
            return answers.efficiency_rows(self.core, self.shelf.asides, uses, self.nodes, by, user), problem

    def job_efficiency(self, name_or_id: str) -> Mapping[str, Any]:
        with self.driver.lock:
            job = self.shelf.find(name_or_id)
            return {"job": job_json(self.shelf.view(job)), **answers.job_efficiency(self.core, job, self.shelf.aside(job.spec.job_id))}

    def logs(self, name_or_id: str, rank: int, offset: int) -> LogPart:
        with self.driver.lock:
            job = self.shelf.find(name_or_id)
            num_attempts, is_final = max(1, job.attempt), job.state.is_final
        logs = [StoredLog(self.store, log_key(job.spec.job_id, number, rank)) for number in range(1, num_attempts + 1)]
        data = read_joined(logs, offset, LOG_BYTES)
        return LogPart(data, offset + len(data), is_final and not data)

    def result(self, name_or_id: str) -> bytes | None:
        job_id = self.find(name_or_id).id
        try:
            return self.store.read_bytes(result_key(job_id))
        except UserError as error:
            if error.code != "artefact_not_found":
                raise
            return None

    def policy_show(self) -> Mapping[str, Any]:
        return self._policies.history()[0]

    def policy_history(self) -> Sequence[Mapping[str, Any]]:
        return self._policies.history()

    # ---- inside

    def perform(self, command: JobCommand) -> None:
        """Carry a decision out; it is on disk."""
        if isinstance(command, Solve):
            self._solver.ask(command.problem)
        elif self._runner is None:
            return
        elif isinstance(command, Launch):
            spec = self.core.jobs[command.job_id].spec
            self._runner.launch(self.epoch, spec, self._how(command.job_id), command.attempt, command.grant)
        elif isinstance(command, Preempt):
            self._runner.preempt(self.epoch, command.job_id, command.attempt)
        elif isinstance(command, Kill):
            self._runner.kill(self.epoch, command.job_id, command.attempt, command.outcome)

    def settled_seq(self) -> int:
        """See `UnderWay.settled_seq`."""
        return self._under_way.settled_seq(lambda: self.journal.last_seq(STREAM))

    def leases(self) -> list[Lease]:
        with self.driver.lock:
            return list(leases_of(self.core))

    def estimate_all(self) -> None:
        """Predict every job that has not ended anew: predictions are not kept in the journal."""
        with self.driver.lock:
            open_jobs = [job.spec for job in self.core.jobs.values() if not job.state.is_final]
            facts = [JobEstimated(spec.job_id, self.families.estimate(spec)) for spec in open_jobs]
        if facts:
            self.driver.tell(*facts)

    def save_families(self) -> None:
        """Keep the histories that changed."""
        with self.driver.lock:
            documents = {profile.task: to_document(profile) for profile in self.families.changed()}
        if documents:
            self._sharing.has_news = True
            self.journal.save(FAMILIES, documents)

    def share_families(self) -> None:
        """Work out what the histories say of each other: outside of the lock, as it takes a while."""
        began_s = time.monotonic()
        if not self._sharing.is_due(began_s):
            return
        self._sharing.has_news = False
        with self.driver.lock:
            known = self.families.copies()
        forecasts = shared_forecasts(known, self.families.catalogue)
        self._sharing.done(began_s, time.monotonic())
        with self.driver.lock:
            self.families.take_forecasts(forecasts)

    def _note(self, facts: Sequence[JobFact]) -> None:
        """Under the lock, after every turn: what listings and the histories keep beside the core."""
        self.shelf.note(facts)
        self.job_tally.note(facts, self.clock.now_s())
        for fact in facts:
            if isinstance(fact, JobProgressed):
                found = self._progress.estimate(self.core, fact)
                if found is not None:
                    family = self.core.jobs[fact.job_id].spec.family
                    self.driver.tell(JobEstimated(fact.job_id, found[0]), *(self._siblings.first(family) if found[1] else ()))
            elif isinstance(fact, JobEnded):
                self._progress.learn(self.core, fact, self.shelf.aside(fact.job_id))
                if fact.outcome == "ok" and fact.job_id in self.core.jobs:
                    self._siblings.note(self.core.jobs[fact.job_id].spec.family)

    def _how(self, job_id: JobId) -> LaunchSpec:
        return codec.decode(LaunchSpec, self.journal.document(STREAM, job_id)["how"])

    def _tend_loop(self) -> None:
        while not self._closed.wait(TEND_S):
            try:
                self._siblings.renew()
                self.save_families()
                self.share_families()
            except (FabricError, ArithmeticError, ValueError) as error:  # predictions are advice: the next round tries again
                _log.warning("families not tended: %s", error)
