"""Carries experiments: brings up the arms that do not run, leads traffic by their weights, and adds up what users post back. On the
directory's loop. Who is better is decided by `serve_apps.rollout.experiment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabric.errors import FabricError, RejectedError, UnknownNameError
from serve_apps.directory.carrier import Carrier
from serve_apps.directory.core import Directory
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.table import Split
from serve_apps.rollout.experiment import Experiment

STREAM = "experiments"
FACTS = "experiment-facts"
LOOK_S = 1.0
KEEP_EVERY_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Trial:
    """One experiment of a model. `keys`: the deployment of each arm; `own`: those that were started for it; `unkept`: facts that are not
    written down yet."""

    id: str
    name: str
    user: str
    experiment: Experiment
    keys: dict[str, str]
    own: list[str] = field(default_factory=list)
    is_over: bool = False
    trouble: str = ""
    unkept: dict[str, Any] = field(default_factory=dict)
    kept_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        plain = {key: getattr(self, key) for key in ("id", "name", "user", "keys", "own", "is_over")}
        return {**plain, "experiment": self.experiment.as_json()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Trial:
        return cls(**{**body, "experiment": Experiment.from_json(body["experiment"])})


class Experiments:
    """`save`, `keep`, `spawn`: as of `Rollouts`."""

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
        self._trials: dict[str, Trial] = {}

    def restore(self, documents: Mapping[str, Any]) -> None:
        """What an earlier life of the directory kept; traffic is led by it at the next look."""
        self._trials = {name: Trial.from_json(body) for name, body in documents.items()}

    def is_running(self, name: str) -> bool:
        return name in self._trials and not self._trials[name].is_over

    def refuse_overlap(self, name: str) -> None:
        """Raises: RejectedError (`experiment_running`)."""
        if self.is_running(name):
            raise RejectedError(f"{name} has an experiment", code="experiment_running", hint=f"fabric experiment stop {name}")

    async def begin(self, name: str, user: str, experiment: Experiment, keys: Mapping[str, str], started: list[DeployRecord]) -> None:
        """`started`: deployments of arms that do not run yet. Traffic is divided when all do; where one cannot start, the experiment ends.

        Raises: RejectedError (`experiment_running`); FabricError where it cannot be kept: then nothing has begun.
        """
        self.refuse_overlap(name)
        trial = Trial(f"{name}.{int(self._wall())}", name, user, experiment, dict(keys), [record.key for record in started])
        before = self._trials.get(name)
        self._trials[name] = trial  # before the first await: whoever asks meanwhile is refused
        try:
            await self._write(trial)
        except FabricError as error:
            del self._trials[name]
            if before is not None:
                self._trials[name] = before
            for record in started:
                self._core.fail(name, record.key, f"its experiment could not be kept: {error.message}")
            raise
        if started:
            experiment.reason = "arms start"
            self._spawn(self._bring_up(trial, started))

    async def _bring_up(self, trial: Trial, started: list[DeployRecord]) -> None:
        try:
            for record in started:
                if why := await self._carrier.bring_up(record):
                    self._note(trial, trial.experiment.stop(self._wall(), f"the fabric: version {record.version} does not start: {why}"))
                    await self._finish(trial)
                    return
                self._core.stand_by(trial.name, record.key)
                await self._keep(trial.name)
        except UnknownNameError:  # the model was deleted meanwhile
            trial.is_over = True

    async def stop(self, name: str, user: str) -> dict[str, Any]:
        """Everything goes to what answered before. Raises: UnknownNameError, RejectedError (`experiment_ended`)."""
        trial = self._trial(name)
        if trial.is_over:
            raise RejectedError(f"the experiment of {name} is over", code="experiment_ended")
        if trial.experiment.state == "running":
            self._note(trial, trial.experiment.stop(self._wall(), user))
        await self._finish(trial)
        return self.shown(name)

    async def forget(self, name: str) -> None:
        """The model is deleted: whatever is under way has ended."""
        trial = self._trials.get(name)
        if trial is not None and not trial.is_over:
            if trial.experiment.state == "running":
                self._note(trial, trial.experiment.stop(self._wall(), "the end of the model"))
            trial.is_over = True
            await self._write(trial)

    async def _finish(self, trial: Trial) -> None:
        self._core.direct(trial.name, None)
        trial.is_over = True
        await self._write(trial)
        await self._keep(trial.name)
        self._spawn(self._end_own(trial))

    def challenges(self, record: DeployRecord) -> Trial | None:
        """The experiment that this deployment was started for."""
        trial = self._trials.get(record.name)
        return trial if trial is not None and not trial.is_over and record.key in trial.own else None

    async def go_on(self, trial: Trial, record: DeployRecord) -> None:
        """After a restart, with a deployment that did not run yet."""
        await self._bring_up(trial, [record])

    def shown(self, name: str) -> dict[str, Any]:
        """Raises: UnknownNameError (`unknown_experiment`)."""
        trial = self._trial(name)
        said = {"id": trial.id, "user": trial.user, "deployments": dict(trial.keys), "is_over": trial.is_over, "trouble": trial.trouble}
        return {**trial.experiment.form(name), **said}

    def listed(self) -> list[dict[str, Any]]:
        return [self.shown(name) for name in sorted(self._trials)]

    async def watch(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Once at each that is under way."""
        for trial in [trial for trial in self._trials.values() if not trial.is_over]:
            try:
                await self._look(trial)
                trial.trouble = ""
            except FabricError as error:
                trial.trouble = error.message

    async def _look(self, trial: Trial) -> None:
        if any(self._core.deployment(trial.name, key).state == "starting" for key in trial.keys.values()):
            return
        seen = {arm: self._core.sightings.observed(trial.name, key) for arm, key in trial.keys.items()}
        fact = trial.experiment.look(self._wall(), seen)
        if fact is not None:
            _log.info("experiment concluded model=%s winner=%s", trial.name, fact["winner"])
            self._note(trial, fact)
        if trial.unkept or self._wall() - trial.kept_s > KEEP_EVERY_S:
            await self._write(trial)
        await self._lead(trial)

    def _note(self, trial: Trial, fact: Mapping[str, Any]) -> None:
        trial.unkept[f"{trial.id}/{fact['to']}"] = {"model": trial.name, "user": trial.user, **fact}

    async def _write(self, trial: Trial) -> None:
        if trial.unkept:
            await self._save(FACTS, trial.unkept)
            trial.unkept = {}
        await self._save(STREAM, {trial.name: trial.as_json()})
        trial.kept_s = self._wall()

    async def _lead(self, trial: Trial) -> None:
        shares = {trial.keys[arm]: share for arm, share in trial.experiment.shares().items()}
        before = self._core.table()
        self._core.direct(trial.name, Split(shares, salt=trial.id))
        if self._core.table() is not before:
            await self._keep(trial.name)

    async def _end_own(self, trial: Trial) -> None:
        over = []
        for key in trial.own:
            with contextlib.suppress(FabricError):  # it is gone, or answers by now
                over.append(self._core.retire(trial.name, key))
        await self._keep(trial.name)
        await self._carrier.end_later(over)

    def _trial(self, name: str) -> Trial:
        if name not in self._trials:
            raise UnknownNameError.of("experiment", name, self._trials)
        return self._trials[name]
