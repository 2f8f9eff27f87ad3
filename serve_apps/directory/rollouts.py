"""Carries rollouts: looks at each twice a second, keeps what was decided, and only then leads traffic by it. On the directory's loop.

What to do is decided by `serve_apps.rollout`. Where a decision cannot be written down, traffic stays as it is until it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fabric.errors import FabricError, UnknownNameError
from serve_apps.directory.carrier import RETIRE_AFTER_S, Carrier, num_wanted
from serve_apps.directory.core import Directory
from serve_apps.directory.records import DeployRecord, ReplicaReport, replica_usd_per_h
from serve_apps.directory.surge import Surge, surge_at
from serve_apps.directory.table import WHOLE, Shadow, Split
from serve_apps.rollout.block import Health
from serve_apps.rollout.decision import Decision
from serve_apps.rollout.form import rollout_form
from serve_apps.rollout.rollout import Rollout
from serve_apps.rollout.spec import RolloutSpec, refuse_overlap

STREAM = "rollouts"
FACTS = "rollout-facts"
LOOK_S = 0.5
KEEP_EVERY_S = 5.0
"""The evidence; every decision is kept at once."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """One rollout of a model. `unkept`: decisions that are not written down yet; `num_facts`: how many ever were made; `full`: replicas
    that the champion had; `is_settled`: it has ended and traffic is led by that; `trouble`: why nothing happens now."""

    id: str
    name: str
    user: str
    rollout: Rollout
    start_error: str = ""
    full: int = 1
    num_facts: int = 0
    is_settled: bool = False
    applied: Decision | None = None
    is_busy: bool = False
    trouble: str = ""
    unkept: dict[str, Any] = field(default_factory=dict)
    kept_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        plain = {key: getattr(self, key) for key in ("id", "name", "user", "start_error", "full", "num_facts", "is_settled")}
        return {**plain, "rollout": self.rollout.as_json()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Run:
        return cls(**{**body, "rollout": Rollout.from_json(body["rollout"])})


class Rollouts:
    """`save(stream, documents)` writes to the journal and raises FabricError; `keep(name)` writes the model's record and tells ingresses;
    `spawn` starts a task."""

    def __init__(
        self,
        core: Directory,
        carrier: Carrier,
        save: Callable[[str, Mapping[str, Any]], Awaitable[None]],
        keep: Callable[[str], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._core, self._carrier = core, carrier
        self._save, self._keep, self._spawn, self._wall = save, keep, spawn, wall
        self._runs: dict[str, Run] = {}

    def restore(self, documents: Mapping[str, Any]) -> None:
        """What an earlier life of the directory kept; traffic is led by it at the next look."""
        self._runs = {name: Run.from_json(body) for name, body in documents.items()}

    def begin(self, record: DeployRecord, spec: RolloutSpec, user: str) -> Run:
        """The deployment is the challenger of the one that answers. Raises: RejectedError (`rollout_running`)."""
        self.refuse_overlap(record.name)
        champion = self._core.deployment(record.name, self._core.default(record.name))
        rollout = Rollout.begin(spec, champion=champion.key, challenger=record.key, now_s=self._wall())
        run = Run(f"{record.name}.{record.key}.{int(self._wall())}", record.name, user, rollout, full=num_wanted(champion))
        self._runs[record.name] = run
        return run

    async def start(self, run: Run, record: DeployRecord) -> None:
        """Bring the challenger up; again after a restart."""
        surge = surge_at(0.0, run.full, run.rollout.spec.max_surge)
        try:
            await self._write(run)
            if surge is not None:
                await self._scale(run, surge)
            why = await self._carrier.bring_up(_of_size(record, surge))
            if why:
                run.start_error = why
            else:
                self._core.stand_by(run.name, record.key)
                await self._keep(run.name)
        except FabricError as error:  # the journal is away, or the model was deleted
            run.start_error = error.message

    # -- questions ---------------------------------------------------------------------------------------------------------

    def refuse_overlap(self, name: str) -> None:
        """Raises: RejectedError (`rollout_running`)."""
        refuse_overlap(name, {run.name: f"a rollout to {run.rollout.challenger}" for run in self._running()})

    def is_running(self, name: str) -> bool:
        return any(run.name == name for run in self._running())

    def challenges(self, record: DeployRecord) -> Run | None:
        """The rollout whose challenger this deployment is."""
        run = self._runs.get(record.name)
        return run if run is not None and not run.is_settled and run.rollout.challenger == record.key else None

    def shown(self, name: str) -> dict[str, Any]:
        """The one under way, or the last. Raises: UnknownNameError (`unknown_rollout`)."""
        run = self._run(name)
        return {
            **rollout_form(run.rollout, model=name),
            "id": run.id,
            "user": run.user,
            "is_settled": run.is_settled,
            "trouble": run.trouble,
        }

    def of_models(self) -> list[tuple[str, Rollout]]:
        """The last of each model that had one."""
        return [(name, run.rollout) for name, run in self._runs.items()]

    def listed(self) -> list[dict[str, Any]]:
        return [self.shown(name) for name in sorted(self._runs)]

    # -- by hand -----------------------------------------------------------------------------------------------------------

    async def order(self, name: str, verb: str, user: str) -> dict[str, Any]:
        """`pause`, `resume`, `promote` or `abort`; returns when traffic is led by it.

        Raises: UnknownNameError (`unknown_rollout`), RejectedError (`rollout_ended`, `rollout_not_ready`), UnavailableError where it cannot
        be kept.
        """
        run = self._run(name)
        orders: dict[str, Callable[..., Decision]] = {
            "pause": run.rollout.pause,
            "resume": run.rollout.resume,
            "promote": run.rollout.promote,
            "abort": run.rollout.abort,
        }
        before, unkept = run.rollout.as_json(), dict(run.unkept)
        decision = orders[verb](self._wall(), user)
        try:
            await self._note(run, decision)
        except FabricError:
            run.rollout, run.unkept = Rollout.from_json(before), unkept
            raise
        await self._apply(run, decision)
        return self.shown(name)

    async def forget(self, name: str) -> None:
        """The model is deleted: whatever is under way has ended."""
        run = self._runs.get(name)
        if run is not None and not run.is_settled:
            decision = run.rollout.decision()
            run.applied = decision if decision.is_ended else run.rollout.abort(self._wall(), "the end of the model")
            run.is_settled = True
            await self._note(run, run.applied)

    # -- looks -------------------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Once at each that is under way."""
        for run in list(self._running()):
            try:
                await self._look(run)
            except FabricError as error:
                if not run.trouble:
                    _log.warning("rollout stands still model=%s: %s", run.name, error)
                run.trouble = error.message

    async def _look(self, run: Run) -> None:
        if run.is_busy:
            return
        if run.applied is not None and run.applied.is_ended:
            await self._settle(run)
            return
        if not run.unkept:
            rollout, observed = run.rollout, self._core.sightings.observed
            champion, challenger = observed(run.name, rollout.champion), observed(run.name, rollout.challenger)
            decision = rollout.look(self._wall(), champion, challenger, self._health(run))
        else:  # the last decision waits for the journal: nothing is looked at that it has not led to
            decision = run.rollout.decision()
        await self._note(run, decision)
        run.trouble = ""
        await self._apply(run, decision)

    def _health(self, run: Run) -> Health:
        rollout = run.rollout
        if run.start_error:
            return Health(0, start_error=run.start_error)
        try:
            record = self._core.deployment(run.name, rollout.challenger)
            champion = self._core.deployment(run.name, rollout.champion)
        except UnknownNameError:
            return Health(0, start_error="its deployment is gone")
        reports = self._core.reports(run.name, record.key)
        # One that may sleep is there without a replica.
        num_ready = max(len(reports), int(record.settings.get("min_replicas", 1)) == 0) if record.state == "ready" else 0
        champions = self._core.reports(run.name, champion.key)
        return Health(
            num_ready=num_ready,
            num_deaths=self._core.sightings.num_lost(run.name, record.key),
            memory_bytes=_mean_memory(reports),
            champion_memory_bytes=_mean_memory(champions),
            usd_per_h=replica_usd_per_h(record) * len(reports),
            champion_usd_per_h=replica_usd_per_h(champion) * len(champions),
        )

    async def _note(self, run: Run, decision: Decision) -> None:
        """Write down what was decided. Raises: FabricError; what could not be written is tried again with the next."""
        if decision.fact is not None:
            run.num_facts += 1
            run.unkept[f"{run.id}/{run.num_facts:05d}"] = {"model": run.name, "user": run.user, **decision.fact}
        if run.unkept or self._wall() - run.kept_s > KEEP_EVERY_S:
            if run.unkept:
                await self._save(FACTS, run.unkept)
            await self._write(run)
            run.unkept = {}

    async def _write(self, run: Run) -> None:
        await self._save(STREAM, {run.name: run.as_json()})
        run.kept_s = self._wall()

    # -- traffic -----------------------------------------------------------------------------------------------------------

    async def _apply(self, run: Run, decision: Decision) -> None:
        before, run.applied = run.applied, decision
        if before is not None and (before.state, before.shares, before.shadow_share) == (
            decision.state,
            decision.shares,
            decision.shadow_share,
        ):
            return
        if decision.is_ended:
            _log.info("rollout ended model=%s state=%s reason=%s", run.name, decision.state, decision.reason)
            with contextlib.suppress(UnknownNameError):  # deleted meanwhile
                await (self._promoted(run) if decision.state == "promoted" else self._turned_back(run, decision))
            await self._settle(run)
            return
        if decision.state == "starting":
            return
        share = decision.shares[run.rollout.challenger]
        surge = surge_at(share / WHOLE, run.full, run.rollout.spec.max_surge)
        if surge is not None and (before is None or before.shares != decision.shares):
            run.is_busy = True
            self._spawn(self._exchanged(run, decision, surge))
            return
        await self._direct(run, decision)

    async def _settle(self, run: Run) -> None:
        run.is_settled = True
        try:
            await self._write(run)
        except FabricError:
            run.is_settled = False
            raise

    async def _exchanged(self, run: Run, decision: Decision, surge: Surge) -> None:
        """Replicas change places before the requests do."""
        try:
            await self._scale(run, surge)
            if run.applied is decision:  # not ended by hand meanwhile
                await self._direct(run, decision)
        finally:
            run.is_busy = False

    async def _direct(self, run: Run, decision: Decision) -> None:
        champion, challenger = run.rollout.champion, run.rollout.challenger
        shadow = Shadow(champion, challenger, decision.shadow_share) if decision.shadow_share else None
        self._core.direct(run.name, Split(dict(decision.shares), salt=run.id), shadow)
        await self._keep(run.name)

    async def _promoted(self, run: Run) -> None:
        over = self._core.activate(run.name, run.rollout.challenger)
        await self._keep(run.name)
        self._spawn(self._retired(run, over))

    async def _retired(self, run: Run, over: list[DeployRecord]) -> None:
        await self._carrier.end_later(over)
        await self._until_idle(run)
        if run.rollout.spec.max_surge is not None:
            await self._carrier.scale(self._core.deployment(run.name, run.rollout.challenger), run.full)

    async def _turned_back(self, run: Run, decision: Decision) -> None:
        challenger = self._core.deployment(run.name, run.rollout.challenger)
        self._core.fail(run.name, challenger.key, f"{decision.state.replace('_', ' ')}: {decision.reason}")
        await self._keep(run.name)
        self._spawn(self._ended(run, challenger))

    async def _ended(self, run: Run, challenger: DeployRecord) -> None:
        await asyncio.sleep(RETIRE_AFTER_S)
        await self._carrier.end_app(challenger)
        await self._until_idle(run)
        if run.rollout.spec.max_surge is not None:
            await self._carrier.scale(self._core.deployment(run.name, run.rollout.champion), run.full)

    async def _until_idle(self, run: Run) -> None:
        """Replicas that are changing places do so first."""
        while run.is_busy:
            await asyncio.sleep(LOOK_S)

    async def _scale(self, run: Run, surge: Surge) -> None:
        """The one that gives replicas up goes first: both never run at once."""
        champion = self._core.deployment(run.name, run.rollout.champion)
        challenger = self._core.deployment(run.name, run.rollout.challenger)
        await self._carrier.scale(champion, surge.num_champion)
        if challenger.state == "ready":
            await self._carrier.scale(challenger, surge.num_challenger)

    # -- helpers -----------------------------------------------------------------------------------------------------------

    def _running(self) -> Iterator[Run]:
        return (run for run in self._runs.values() if not run.is_settled)

    def _run(self, name: str) -> Run:
        if name not in self._runs:
            raise UnknownNameError.of("rollout", name, self._runs)
        return self._runs[name]


def _of_size(record: DeployRecord, surge: Surge | None) -> DeployRecord:
    return record if surge is None else replace(record, settings={**record.settings, "replicas": surge.num_challenger})


def _mean_memory(reports: Sequence[ReplicaReport]) -> float:
    """Of a replica, in bytes; 0 where there is none."""
    return sum(report.stats.get("memory_bytes", 0.0) for report in reports) / max(1, len(reports))
