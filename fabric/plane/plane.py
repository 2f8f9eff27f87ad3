"""The job plane: what the API calls. Every accepted job is on disk before `submit` returns.

Holds together the core and its driver, the journal, the runners, the optimiser and the families' history. Invariants: a
submission is refused whole or accepted whole; nothing here decides where or when a job runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import yaml

from fabric import codec
from fabric.api.port import LogPart, Submission
from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError, RejectedError, RuntimeFault, UnknownNameError, UserError
from fabric.job import JobId, JobSpec, LaunchSpec
from fabric.job_events import (
    JobCancelRequested,
    JobCommand,
    JobDispatched,
    JobEnded,
    JobEstimated,
    JobFact,
    JobProgressed,
    JobStarted,
    JobSubmitted,
    Kill,
    Launch,
    PlanSolved,
    PolicyApplied,
    Preempt,
    RunFact,
    Solve,
)
from fabric.job_form import JobView
from fabric.journal import Batch, Committer, Journal
from fabric.plane import answers, views
from fabric.plane.driver import STREAM, Driver, WallClock
from fabric.plane.progress import Progress
from fabric.plane.solver import Solver
from fabric.plane.views import Aside
from fabric.policy_document import read_policy
from fabric.ports import RunnerPort
from fabric.running.order import log_key, result_key
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.states import JobState
from fabric.stored_log import StoredLog, read_joined
from fabric.types import Flavor
from profiler.families import Families
from profiler.store import to_document

FAMILIES = "families"
LOG_BYTES = 1 << 20
SAVE_S = 5.0
SETTLE_S = 30.0
_log = logging.getLogger(__name__)


class JobPlane:
    """See `fabric.api.port.JobPlanePort` for the methods that the API calls. `start` begins to schedule."""

    def __init__(
        self, core: Core, journal: Journal, store: ArtefactStore, clock: WallClock, epoch: int, *, asides: dict[JobId, Aside] | None = None
    ) -> None:
        self.core = core
        self.epoch = epoch
        self.catalogue: Mapping[str, Flavor] = core.book.catalogue
        self.families = Families(self.catalogue)
        self.journal = journal
        self.store = store
        self.clock = clock
        self.twins: frozenset[str] = frozenset()
        self._committer = Committer(journal)
        self._driver = Driver(core, self._committer, self.perform, clock, self._note)
        self._solver = Solver(lambda plan: self._driver.tell(PlanSolved(plan)))
        self._runner: RunnerPort | None = None
        self._asides: dict[JobId, Aside] = asides or {}
        self._progress = Progress(self.families)
        self._calls: set[object] = set()
        self._is_open = True

    @property
    def driver(self) -> Driver:
        return self._driver

    @property
    def asides(self) -> Mapping[JobId, Aside]:
        return self._asides

    def start(self, runner: RunnerPort) -> None:
        self._runner = runner
        self._driver.start()
        threading.Thread(target=self._save_loop, name="families", daemon=True).start()

    def close(self) -> None:
        """Stop scheduling; what runs goes on."""
        self._is_open = False
        self._driver.close()
        self._solver.close()
        self._committer.close()

    # ---- in

    def submit(self, submissions: Sequence[Submission], by: str) -> list[JobId]:
        stands_for = self._stand_ins(submissions, by)
        new = [each for each in submissions if stands_for[each.spec.job_id] == each.spec.job_id]
        fresh = [each for each in new if each.spec.job_id not in self.core.jobs]
        specs = {each.spec.job_id: _renamed(each.spec, stands_for) for each in fresh}
        for each in fresh:
            self._check(specs[each.spec.job_id], specs)
        batches = [
            Batch(
                STREAM,
                (JobSubmitted(specs[each.spec.job_id], by),),
                {each.spec.job_id: {"how": codec.encode(each.how), "summary": dict(each.summary)}},
                each.idempotency_key,
                each.spec.job_id,
                self.clock.now_s(),
            )
            for each in fresh
        ]
        facts: list[JobFact] = []
        with self._under_way():
            for each, written in zip(fresh, self._committer.submit(batches).result(), strict=True):
                spec = specs[each.spec.job_id]
                if written.taken_by is not None:
                    stands_for[spec.job_id] = JobId(written.taken_by)
                    continue
                self._asides[spec.job_id] = Aside(each.summary)
                with self._driver.lock:
                    estimate = self.families.estimate(spec)
                facts += [JobSubmitted(spec, by), JobEstimated(spec.job_id, estimate)]
            if facts:
                self._driver.tell_and_wait(*facts, is_written=True)
        return [stands_for[each.spec.job_id] for each in submissions]

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """Facts are written here and applied a little later: see `settled_seq`."""
        call = object()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def settled_seq(self) -> int:
        """A number up to which every fact of the journal has been applied. Some behind it may have been, too: replay takes
        what a snapshot already has for what it is. Raises: RuntimeFault where a call hangs."""
        seq, before = self.journal.last_seq(STREAM), set(self._calls)
        until_s = time.monotonic() + SETTLE_S
        while before & self._calls:
            if time.monotonic() > until_s:
                raise RuntimeFault("a submission is still being applied", code="not_settled")
            time.sleep(0.01)
        return seq

    def estimate_all(self) -> None:
        """Predict every job that has not ended anew: predictions are not kept in the journal."""
        with self._driver.lock:
            open_jobs = [job.spec for job in self.core.jobs.values() if not job.state.is_final]
            facts = [JobEstimated(spec.job_id, self.families.estimate(spec)) for spec in open_jobs]
        if facts:
            self._driver.tell(*facts)

    def _stand_ins(self, submissions: Sequence[Submission], by: str) -> dict[JobId, JobId]:
        """New id -> the id that it stands for: its own, or that of the job its idempotency key is taken by."""
        keys = [each.idempotency_key for each in submissions if each.idempotency_key is not None]
        taken = self.journal.ids_of(STREAM, keys) if keys else {}
        found = {}
        for each in submissions:
            known = self.core.jobs.get(each.spec.job_id)
            if known is not None and known.spec.user != each.spec.user:
                raise RejectedError(f"the id {each.spec.job_id} is another user's", code="id_taken", hint="leave the id out")
            found[each.spec.job_id] = JobId(taken.get(each.idempotency_key or "", each.spec.job_id))
        return found

    def _check(self, spec: JobSpec, others: Mapping[JobId, JobSpec]) -> None:
        """Whether this fabric can ever run it, under its policy. Raises: UnknownNameError, NoFitError."""
        policy = self.core.book.policy
        queues, classes = [queue.name for queue in policy.queues], [cls.name for cls in policy.classes]
        if spec.queue not in queues:
            raise UnknownNameError.of("queue", spec.queue, queues)
        if spec.priority and spec.priority not in classes:
            raise UnknownNameError.of("priority class", spec.priority, classes)
        for other in spec.after:
            if other not in others and other not in self.core.jobs:
                raise UnknownNameError(f"after={other!r}: no such job", code="unknown_job", hint="`fabric queue` lists jobs", name=other)
        with self._driver.lock:
            answers.check_fits(self.core, spec)

    def cancel(self, name_or_id: str, by: str) -> JobView:
        job_id = self._find(name_or_id).spec.job_id
        self._driver.tell_and_wait(JobCancelRequested(job_id, by))
        return self.job(job_id)

    def report(self, epoch: int, facts: Sequence[RunFact]) -> None:
        """What runners tell. Raises: RejectedError (`stale_epoch`, `attempt_over`); taken and on disk when it returns."""
        for fact in facts:
            job = self.core.jobs.get(fact.job_id)
            if job is None or fact.attempt < job.attempt:
                raise RejectedError(f"attempt {fact.attempt} of {fact.job_id} is over", code="attempt_over")
        self._driver.tell_and_wait(*facts)

    # ---- out

    def job(self, name_or_id: str) -> JobView:
        with self._driver.lock:
            job = self._find(name_or_id)
            return self._view(job, self._places() if job.state is JobState.PENDING else {})

    def jobs(
        self,
        *,
        queue: str | None = None,
        user: str | None = None,
        states: Collection[JobState] = (),
        array: str | None = None,
        limit: int = 1000,
    ) -> list[JobView]:
        with self._driver.lock:
            order = self._places()
            wanted = [
                job
                for job in self.core.jobs.values()
                if queue in (None, job.spec.queue)
                and user in (None, job.spec.user)
                and array in (None, job.spec.array_id)
                and (not states or job.state in states)
            ]
            wanted.sort(key=lambda job: (job.state.is_final, not job.is_holding, order.get(job.spec.job_id, 0), -job.ended_s))
            return [self._view(job, order) for job in wanted[:limit]]

    def wait(self, name_or_id: str, timeout_s: float) -> JobView:
        until_s = time.monotonic() + timeout_s
        with self._driver.changed:
            job = self._find(name_or_id)
            while not job.state.is_final and (left_s := until_s - time.monotonic()) > 0:
                self._driver.changed.wait(min(left_s, 1.0))
        return self.job(job.spec.job_id)

    def explain(self, name_or_id: str) -> Mapping[str, Any]:
        with self._driver.lock:
            job = self._find(name_or_id)
            story, now_s = self.story(job.spec.job_id), self.clock.now_s()
            return answers.explanation(self.core, job, self._view_now, story, self.twins, now_s, estimate_of=self.families.estimate)

    def plan(self, submission: Submission) -> Mapping[str, Any]:
        self._check(submission.spec, {})
        with self._driver.lock:
            estimate = self.families.estimate(submission.spec)
            return answers.plan(self.core, submission.spec, estimate, submission.summary, self.twins, self.clock.now_s())

    def story(self, name_or_id: str) -> Sequence[Mapping[str, Any]]:
        job_id = self._find(name_or_id).spec.job_id
        return [
            {"seq": entry.seq, "wall_s": entry.wall_s, "kind": entry.kind, "by": entry.body.get("by", "fabric"), "body": entry.body}
            for entry in self.journal.story(STREAM, job_id)
        ]

    def usage(self, by: Literal["user", "queue"]) -> Sequence[Mapping[str, Any]]:
        with self._driver.lock:
            return answers.usage_rows(self.core, by, self.clock.now_s())

    def logs(self, name_or_id: str, rank: int, offset: int) -> LogPart:
        with self._driver.lock:
            job = self._find(name_or_id)
            num_attempts, is_final = max(1, job.attempt), job.state.is_final
        logs = [StoredLog(self.store, log_key(job.spec.job_id, number, rank)) for number in range(1, num_attempts + 1)]
        data = read_joined(logs, offset, LOG_BYTES)
        return LogPart(data, offset + len(data), is_final and not data)

    def result(self, name_or_id: str) -> bytes | None:
        job = self._find(name_or_id)
        try:
            return self.store.read_bytes(result_key(job.spec.job_id))
        except UserError as error:
            if error.code != "artefact_not_found":
                raise
            return None

    def put(self, chunks: Iterable[bytes]) -> str:
        return str(self.store.put(b"".join(chunks)))

    def has(self, digest: str) -> bool:
        return self.store.has(digest)  # type: ignore[arg-type]

    # ---- policy

    def policy_apply(self, document: str | Mapping[str, Any], by: str) -> int:
        with self._under_way():
            with self._driver.lock:
                version = self.core.book.policy.version + 1
                read_policy(document, catalogue=self.catalogue, version=version)
                kept = yaml.safe_load(document) if isinstance(document, str) else dict(document)
                fact = PolicyApplied(version, kept, by)
                self._committer.commit(STREAM, [fact], wall_s=self.clock.now_s())
            self._driver.tell_and_wait(fact, is_written=True)
        return version

    def policy_show(self) -> Mapping[str, Any]:
        return self.policy_history()[0]

    def policy_history(self) -> Sequence[Mapping[str, Any]]:
        entries = list(self.journal.entries(STREAM, kinds=("PolicyApplied",)))
        return [_policy_row(entry.body, entry.wall_s) for entry in reversed(entries)] or [_no_policy()]

    def policy_rollback(self, version: int | None, by: str) -> int:
        history = self.policy_history()
        wanted = history[0]["version"] - 1 if version is None else version
        found = next((row for row in history if row["version"] == wanted), None)
        if found is None or not found["document"]:
            hint = "known: " + ", ".join(str(row["version"]) for row in history)
            raise UnknownNameError(f"unknown policy version {wanted}", code="unknown_policy_version", hint=hint, name=str(wanted))
        return self.policy_apply(found["document"], by)

    # ---- inside

    def _find(self, text: str) -> JobRecord:
        with self._driver.lock:
            found = views.find(self.core, text)
        if found is None:
            raise UnknownNameError(f"unknown job {text!r}", code="unknown_job", hint="`fabric queue` lists jobs", name=text)
        return found

    def _places(self) -> dict[JobId, int]:
        """The place of each job that waits, from 1."""
        return {job.spec.job_id: place for place, job in enumerate(views.in_order(self.core), 1)}

    def _view(self, job: JobRecord, order: Mapping[JobId, int]) -> JobView:
        aside = self._asides.setdefault(job.spec.job_id, Aside(None))
        if aside.summary is None:
            kept = self.journal.document(STREAM, job.spec.job_id)
            aside.summary = kept.get("summary", {}) if isinstance(kept, dict) else {}
        return views.view_of(self.core, job, aside, self.twins, self.clock.now_s(), order.get(job.spec.job_id))

    def _view_now(self, job: JobRecord) -> JobView:
        return self._view(job, {})

    def _note(self, facts: Sequence[JobFact]) -> None:
        """Under the lock, after every turn: what listings and the history keep beside the core."""
        for fact in facts:
            match fact:
                case JobDispatched():
                    aside = self._asides.setdefault(fact.job_id, Aside(None))
                    aside.option, aside.nodes = fact.grant.option, fact.grant.nodes
                case JobStarted():
                    self._asides.setdefault(fact.job_id, Aside(None)).started_s = self.core.book.now_s
                case JobProgressed():
                    self._asides.setdefault(fact.job_id, Aside(None)).total = fact.total
                    estimate = self._progress.estimate(self.core, fact)
                    if estimate is not None:
                        self._driver.tell(JobEstimated(fact.job_id, estimate))
                case JobEnded():
                    aside = self._asides.setdefault(fact.job_id, Aside(None))
                    aside.exit_code = fact.exit_code
                    self._progress.learn(self.core, fact, aside)

    def perform(self, command: JobCommand) -> None:
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

    def _how(self, job_id: JobId) -> LaunchSpec:
        return codec.decode(LaunchSpec, self.journal.document(STREAM, job_id)["how"])

    def _save_loop(self) -> None:
        while self._is_open:
            time.sleep(SAVE_S)
            try:
                self.save_families()
            except FabricError as error:
                _log.warning("families not saved: %s", error.message)

    def save_families(self) -> None:
        with self._driver.lock:
            documents = {profile.task: to_document(profile) for profile in self.families.changed()}
        if documents:
            self.journal.save(FAMILIES, documents)


def _renamed(spec: JobSpec, stands_for: Mapping[JobId, JobId]) -> JobSpec:
    after = tuple(stands_for.get(other, other) for other in spec.after)
    return spec if after == spec.after else dataclasses.replace(spec, after=after)


def _policy_row(body: Mapping[str, Any], wall_s: float) -> dict[str, Any]:
    return {"version": body["version"], "document": body["document"], "by": body["by"], "applied_s": wall_s}


def _no_policy() -> dict[str, Any]:
    return {"version": 0, "document": {}, "by": "fabric", "applied_s": None}
