"""A job plane in memory, over the scheduler's own core: jobs run as local processes, functions in threads. For tests of the API."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import yaml

from fabric.api.port import LogPart, Submission
from fabric.api.tokens import Tokens
from fabric.errors import NoFitError, RejectedError, UnknownNameError
from fabric.job import JobId, LaunchSpec
from fabric.job_events import (
    JobCancelRequested,
    JobCommand,
    JobEnded,
    JobFact,
    JobStarted,
    JobSubmitted,
    Kill,
    Launch,
    NodesSeen,
    PolicyApplied,
)
from fabric.job_form import JobView, job_json
from fabric.job_ids import is_job_id
from fabric.policy_document import read_policy
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.scheduler.ways import Ways
from fabric.states import JobState
from fabric.types import Flavor, Node
from tests.fleet import COLD, FLAVORS, HOT, node

POLICY = {"apiVersion": "scheduling.example.com/v1", "kind": "HybridPolicy", "metadata": {"name": "default"}, "spec": {}}
NODES = (node("big-1", HOT, CPU=8.0, GPU=2.0, memory=float(64 << 30)), node("cpus-1", COLD, CPU=8.0, memory=float(64 << 30)))


class Documents:
    """The journal's documents, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.num_saves = 0

    def load(self, stream: str) -> dict[str, Any]:
        return dict(self.kept.get(stream, {}))

    def save(self, stream: str, new: Mapping[str, Any]) -> None:
        self.kept.setdefault(stream, {}).update(new)
        self.num_saves += 1


def tokens_for(**scopes: str) -> tuple[Tokens, dict[str, str]]:
    """`tokens_for(ann="submit", ops="operate,submit")`: a token for each user."""
    tokens = Tokens(Documents())
    return tokens, {user: tokens.mint(user, words.split(","))[0] for user, words in scopes.items()}


class MemoryPlane:
    """See `fabric.api.port.JobPlanePort`. `runs=False` starts nothing: jobs wait for ever. `folder`: where programs run."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: Sequence[Node] = NODES,
        catalogue: Mapping[str, Flavor] = FLAVORS,
        runs: bool = True,
        checks: bool = True,
    ) -> None:
        self.catalogue = catalogue
        self.core = Core(catalogue, is_planning=False)
        self.ways = Ways(catalogue)
        self.folder, self.runs, self.checks = folder, runs, checks
        self.how: dict[JobId, LaunchSpec] = {}
        self.summaries: dict[JobId, Mapping[str, Any]] = {}
        self.keys: dict[str, JobId] = {}
        self.blobs: dict[str, bytes] = {}
        self.logged: dict[JobId, bytearray] = {}
        self.results: dict[JobId, bytes] = {}
        self.facts: list[tuple[float, JobFact]] = []
        self.versions: list[dict[str, Any]] = []
        self.nodes = nodes
        self._wall_s = {"submitted": {}, "started": {}, "ended": {}}  # type: dict[str, dict[JobId, float]]
        self._exit_codes: dict[JobId, int] = {}
        self._processes: dict[JobId, subprocess.Popen[bytes]] = {}
        self._changed = threading.Condition(threading.RLock())
        if nodes:
            self._handle(NodesSeen(tuple(nodes)))
        self.policy_apply(POLICY, "fabric")

    # -- in ------------------------------------------------------------------------------------------------------------------

    def submit(self, submissions: Sequence[Submission], by: str) -> list[JobId]:
        with self._changed:
            stands_for: dict[JobId, JobId] = {}
            for each in submissions:
                stands_for[each.spec.job_id] = self._known(each, by) or each.spec.job_id
            new = [each for each in submissions if stands_for[each.spec.job_id] not in self.core.jobs]
            for each in new if self.checks else ():
                self._check(each)
            facts = []
            for each in new:
                spec = each.spec
                if any(stands_for.get(other, other) != other for other in spec.after):
                    spec = dataclasses.replace(spec, after=tuple(stands_for.get(other, other) for other in spec.after))
                self.how[spec.job_id], self.summaries[spec.job_id] = each.how, each.summary
                if each.idempotency_key is not None:
                    self.keys[each.idempotency_key] = spec.job_id
                self._wall_s["submitted"][spec.job_id] = spec.submitted_s
                facts.append(JobSubmitted(spec, by))
            self._handle(*facts)
            return [stands_for[each.spec.job_id] for each in submissions]

    def _known(self, submission: Submission, by: str) -> JobId | None:
        spec = submission.spec
        found = self.core.jobs.get(spec.job_id)
        if found is not None and found.spec.user != by:
            raise RejectedError(f"the id {spec.job_id} is another user's", code="id_taken")
        return self.keys.get(submission.idempotency_key or "") or (spec.job_id if found is not None else None)

    def _check(self, submission: Submission) -> None:
        spec, policy = submission.spec, self.policy
        if spec.queue not in (queues := [each.name for each in policy.queues]):
            raise UnknownNameError.of("queue", spec.queue, queues)
        if spec.priority and spec.priority not in (classes := [each.name for each in policy.classes]):
            raise UnknownNameError.of("priority class", spec.priority, classes)
        if not any(self._can_hold(shape, flavor) for shape in spec.shapes for flavor in self.ways.flavors(shape)):
            raise NoFitError(f"{spec.name} fits nowhere", hint="ask for less")

    def _can_hold(self, shape: Any, flavor: str) -> bool:
        demand = shape.demand(self.catalogue[flavor])
        fitting = [n for n in self.nodes if n.flavor == flavor and all(n.total.get(name, 0.0) >= amount for name, amount in demand.items())]
        return len(fitting) >= (shape.num_bundles if shape.spread else 1)

    def cancel(self, name_or_id: str, by: str) -> JobView:
        with self._changed:
            job_id = self._find(name_or_id).spec.job_id
            self._handle(JobCancelRequested(job_id, by))
            return self.job(job_id)

    def put(self, chunks: Iterable[bytes]) -> str:
        body = b"".join(chunks)
        digest = sha256(body).hexdigest()
        self.blobs[digest] = body
        return digest

    def has(self, digest: str) -> bool:
        return digest in self.blobs

    # -- out -----------------------------------------------------------------------------------------------------------------

    def job(self, name_or_id: str) -> JobView:
        with self._changed:
            return self._view(self._find(name_or_id))

    def jobs(
        self,
        *,
        queue: str | None = None,
        user: str | None = None,
        states: Collection[JobState] = (),
        array: str | None = None,
        limit: int = 1000,
    ) -> list[JobView]:
        with self._changed:
            wanted = [
                record
                for record in self.core.jobs.values()
                if (queue in (None, record.spec.queue) and user in (None, record.spec.user) and array in (None, record.spec.array_id))
                and (not states or record.state in states)
            ]
            wanted.sort(key=lambda r: (r.state.is_final, not r.is_holding, r.spec.job_id if not r.state.is_final else -r.ended_s))
            return [self._view(record) for record in wanted[:limit]]

    def wait(self, name_or_id: str, timeout_s: float) -> JobView:
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._find(name_or_id).state.is_final and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self.job(name_or_id)

    def explain(self, name_or_id: str) -> Mapping[str, Any]:
        with self._changed:
            record = self._find(name_or_id)
            before = [r for r in self._waiting() if r.spec.job_id < record.spec.job_id] if record.state is JobState.PENDING else []
            ahead = [self.job(r.spec.job_id) for r in before]
            return {
                "job": job_json(self._view(record)),
                "ahead": [
                    {key: job_json(view)[key] for key in ("id", "name", "user", "queue", "asks", "state", "remaining_s")} for view in ahead
                ],
                "num_ahead": len(ahead),
                "expected_start_s": None,
                "expected_start_low_s": None,
                "expected_start_high_s": None,
                "ways": self._ways(record.spec),
                "counterfactuals": [],
                "events": [{"wall_s": f["wall_s"], "kind": f["kind"], "by": f["by"], "text": f["kind"]} for f in self.story(name_or_id)],
                "now_s": time.time(),
            }

    def plan(self, submission: Submission) -> Mapping[str, Any]:
        self._check(submission)
        spec, ways = submission.spec, self._ways(submission.spec)
        asked = {"name": spec.name, "user": spec.user, "queue": spec.queue, "asks": submission.summary["asks"]}
        chosen = next((i for i, way in enumerate(ways) if way["verdict"] == "Fit"), None)
        return {"job": asked, "ways": ways, "chosen": chosen, "reason": "OnlyFit", "detail": "", "now_s": time.time()}

    def _ways(self, spec: Any) -> list[dict[str, Any]]:
        rows = []
        for way in self.ways.resolve(spec, None):
            flavor, can = self.catalogue[way.flavor], self._can_hold(spec.shapes[way.shape], way.flavor)
            row: dict[str, Any] = {
                "flavor": way.flavor,
                "tier": flavor.tier,
                "twin": False,
                "num_bundles": way.num_bundles,
                "units": way.units,
            }
            row |= {"wait_s": 0.0 if can else None, "run_s": 60.0 if can else None, "run_log_sd": 0.3, "finish_s": 60.0 if can else None}
            usd = None if flavor.usd_per_h is None else flavor.usd_per_h * way.units / 60.0
            row |= {"cost_usd": usd, "verdict": "Fit" if can else "NoFit", "reason": "" if can else "Resources", "detail": ""}
            rows.append(row)
        return rows

    def story(self, name_or_id: str) -> Sequence[Mapping[str, Any]]:
        job_id = self._find(name_or_id).spec.job_id
        told = [
            (wall_s, fact)
            for wall_s, fact in self.facts
            if job_id in (getattr(fact, "job_id", None), getattr(getattr(fact, "spec", None), "job_id", None))
        ]
        return [
            {"seq": i, "wall_s": s, "kind": type(f).__name__, "by": getattr(f, "by", "fabric"), "body": {}} for i, (s, f) in enumerate(told)
        ]

    def usage(self, by: Literal["user", "queue"]) -> Sequence[Mapping[str, Any]]:
        with self._changed:
            rows: dict[str, dict[str, Any]] = {}
            for record in self.core.jobs.values():
                name = record.spec.user if by == "user" else record.spec.queue
                row = rows.setdefault(
                    name, {"name": name, "pending": 0, "running": 0, "ended": 0, "units": 0.0, "unit_hours": 0.0, "cost_usd": 0.0}
                )
                row["ended" if record.state.is_final else "running" if record.is_holding else "pending"] += 1
                row["units"] += record.grant.option.units if record.grant else 0.0
                row["cost_usd"] += record.spent_usd
            return [{**row, "share_frac": None, "weight": 1.0, "budget_usd": None, "budget_left_usd": None} for row in rows.values()]

    def logs(self, name_or_id: str, rank: int, offset: int) -> LogPart:
        with self._changed:
            record = self._find(name_or_id)
            data = bytes(self.logged.get(record.spec.job_id, b"")[offset:]) if rank == 0 else b""
            return LogPart(data, offset + len(data), record.state.is_final)

    def result(self, name_or_id: str) -> bytes | None:
        return self.results.get(self._find(name_or_id).spec.job_id)

    # -- policy --------------------------------------------------------------------------------------------------------------

    def policy_apply(self, document: str | Mapping[str, Any], by: str) -> int:
        version = len(self.versions) + 1
        self.policy = read_policy(document, catalogue=self.catalogue, version=version)
        kept = yaml.safe_load(document) if isinstance(document, str) else dict(document)
        with self._changed:
            self.versions.insert(0, {"version": version, "document": kept, "by": by, "applied_s": time.time()})
            self._handle(PolicyApplied(version, kept, by))
        return version

    def policy_show(self) -> Mapping[str, Any]:
        return self.versions[0]

    def policy_history(self) -> Sequence[Mapping[str, Any]]:
        return self.versions

    def policy_rollback(self, version: int | None, by: str) -> int:
        wanted = self.versions[0]["version"] - 1 if version is None else version
        for each in self.versions:
            if each["version"] == wanted:
                return self.policy_apply(each["document"], by)
        raise UnknownNameError(f"unknown policy version {wanted}", code="unknown_policy_version", hint="`fabric policy history`")

    # -- inside --------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        for process in list(self._processes.values()):
            process.kill()

    def _find(self, text: str) -> JobRecord:
        with self._changed:
            if is_job_id(text) and text in self.core.jobs:
                return self.core.jobs[JobId(text)]
            for record in reversed(self.core.jobs.values()):
                if record.spec.name == text or (len(text) >= 8 and record.spec.job_id.endswith(text)):
                    return record
        raise UnknownNameError(f"unknown job {text!r}", code="unknown_job", hint="`fabric queue` lists jobs", name=text)

    def _waiting(self) -> list[JobRecord]:
        return [record for record in self.core.jobs.values() if record.state is JobState.PENDING]

    def _handle(self, *facts: JobFact) -> None:
        with self._changed:
            now_s = time.time()
            self.facts += [(now_s, fact) for fact in facts]
            decision = self.core.handle(*facts, now_s=now_s)
            self.facts += [(now_s, fact) for fact in decision.facts]
            for record in self.core.jobs.values() if self.runs else ():
                if record.state.is_final:
                    self._wall_s["ended"].setdefault(record.spec.job_id, now_s)
            for command in decision.commands if self.runs else ():
                self._perform(command)
            self._changed.notify_all()

    def _perform(self, command: JobCommand) -> None:
        if isinstance(command, Launch):
            threading.Thread(target=self._run, args=(command,), daemon=True).start()
        elif isinstance(command, Kill) and (process := self._processes.get(command.job_id)) is not None:
            os.killpg(process.pid, signal.SIGTERM)

    def _run(self, command: Launch) -> None:
        how = self.how[command.job_id]
        with self._changed:
            self._wall_s["started"][command.job_id] = time.time()
        code = self._call(command.job_id, how) if how.form == "callable" else self._execute(command, how)
        with self._changed:
            self._exit_codes[command.job_id] = code
            self._handle(JobEnded(command.job_id, command.attempt, "ok" if code == 0 else "error", f"exit code {code}", code))

    def _call(self, job_id: JobId, how: LaunchSpec) -> int:
        self._handle(JobStarted(job_id, 1))
        try:
            fn, args, kwargs = pickle.loads(self.blobs[how.payload])
            outcome: tuple[bool, Any] = (True, fn(*args, **kwargs))
        except Exception as error:  # whatever the test's function raises is its result
            outcome = (False, error)
        self.results[job_id] = cloudpickle.dumps(outcome)
        return 0 if outcome[0] else 1

    def _execute(self, command: Launch, how: LaunchSpec) -> int:
        env = {**os.environ, **how.env, **how.secrets, "FABRIC_JOB_ID": command.job_id}
        with self._changed:
            process = subprocess.Popen(
                ["bash", "-c", how.command],
                cwd=self.folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes[command.job_id] = process
            log = self.logged.setdefault(command.job_id, bytearray())
            self._handle(JobStarted(command.job_id, command.attempt))
        assert process.stdout is not None
        while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
            with self._changed:
                log += chunk
                self._changed.notify_all()
        process.stdout.close()
        return process.wait()

    def _view(self, record: JobRecord) -> JobView:
        spec, option = record.spec, record.grant.option if record.grant else None
        waiting = self._waiting() if record.state is JobState.PENDING and len(self.core.jobs) < 1000 else []
        flavor = option.flavor if option else ""
        job_id, summary = spec.job_id, self.summaries[spec.job_id]
        return JobView(
            job_id,
            spec.name,
            spec.user,
            spec.queue,
            spec.priority,
            spec.form,
            record.state,
            spec.submitted_s,
            record.why,
            record.detail,
            asks=summary["asks"],
            command=summary["command"],
            attempt=record.attempt,
            flavor=flavor,
            tier=self.catalogue[flavor].tier if flavor else "",
            num_bundles=option.num_bundles if option else 0,
            units=option.units if option else 0.0,
            nodes=record.grant.nodes if record.grant else (),
            started_s=self._wall_s["started"].get(job_id),
            ended_s=self._wall_s["ended"].get(job_id),
            deadline_s=spec.deadline_s,
            budget_usd=spec.budget_usd,
            cost_usd=record.spent_usd,
            position=next((i + 1 for i, each in enumerate(waiting) if each is record), None),
            exit_code=self._exit_codes.get(job_id),
            after=spec.after,
            array_id=spec.array_id,
            family=spec.family,
            tags=spec.tags,
        )
