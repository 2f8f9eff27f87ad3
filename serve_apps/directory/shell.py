"""The directory's actor: keeps what is deployed in the journal, carries deploys to Serve, tells ingresses and replicas what changes.

Undecorated; one per fabric, on the head, restarted for ever. Its methods are coroutines on one loop, so the core needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fabric.api.tokens import STREAM as TOKENS
from fabric.api.tokens import DocumentsPort
from fabric.claims import Room
from fabric.config import FabricConfig
from fabric.errors import FabricError, UnknownNameError
from fabric.metering import EXPORT_S, Meter
from fabric.offers import ModelPrior
from fabric.registry.registry import Registry
from fabric.types import Offer
from serve_apps.directory import bill
from serve_apps.directory.carrier import Carrier, num_wanted
from serve_apps.directory.changes import Changes
from serve_apps.directory.core import Directory
from serve_apps.directory.experiments import STREAM as EXPERIMENTS
from serve_apps.directory.experiments import Experiments
from serve_apps.directory.form import model_form, usage_rows
from serve_apps.directory.ingresses import Ingresses, spread
from serve_apps.directory.observed import Sum
from serve_apps.directory.records import DeployRecord, ReplicaReport
from serve_apps.directory.releases import Releases
from serve_apps.directory.requests import ACTOR, BeatAnswer, DeployRequest, IngressPort, Progress, ServePort
from serve_apps.directory.rollouts import STREAM as ROLLOUTS
from serve_apps.directory.rollouts import Rollouts
from serve_apps.directory.samples import ServingSamples
from serve_apps.directory.table import ReplicaId, ServingTable
from serve_apps.moving import LOOK_S, Movers, standing_of
from serve_apps.place_model import Wish, placement_json

STREAM = "models"
TEND_S = 1.0
MAX_DECISIONS = 20
TOKENS_S = 2.0
WATCHED_BEAT_S = 0.5
"""Of replicas of a model in a rollout: what goes wrong is seen early."""
_log = logging.getLogger(__name__)


class DirectoryShell:
    """Named `models`."""

    def __init__(
        self,
        config: FabricConfig,
        open_documents: Callable[[FabricConfig], DocumentsPort],
        open_registry: Callable[[FabricConfig], Registry],
        port: ServePort,
        offers: Callable[[Wish, ModelPrior], Sequence[Offer]] | None = None,
        claim: Callable[[Sequence[Room], Sequence[str]], Any] = lambda rooms, tiers: None,
        ingresses: tuple[Ingresses, IngressPort] | None = None,
    ) -> None:
        """`open_registry`: of the fabric's models; `offers`: the places for a model; without it models stay where they were deployed.
        `claim(rooms, tiers)` keeps jobs off the room that models wait for."""
        self._config = config
        self._movers = Movers(offers) if offers is not None else None
        self._claim = functools.partial(_claimed, claim, config.tier_names)
        self._ingresses = ingresses
        self._documents = open_documents(config)
        self._port = port
        self._core = Directory()
        self._carrier = Carrier(self._core, port, self._keep)
        self._core.restore(self._documents.load(STREAM).items())
        self._bill = bill.Bill()
        self._bill.restore(self._documents.load(bill.STREAM))
        names = list(self._core.table().models)
        records = [record for name in names for record in self._core.records(name)]
        self._changes = Changes(
            self._core,
            Releases(self._core, open_registry(config), offers),
            Rollouts(self._core, self._carrier, self._save, self._keep, self._spawn),
            Experiments(self._core, self._carrier, self._save, self._keep, self._spawn),
            self.deploy,
        )
        self._changes.rollouts.restore(self._documents.load(ROLLOUTS))
        self._changes.experiments.restore(self._documents.load(EXPERIMENTS))
        self._unfinished = [record for record in records if record.state in ("starting", "retiring")]
        self._tokens: dict[str, Any] = {}
        self._tokens_mark = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._told = self._core.table()
        self._decisions: dict[str, deque[dict[str, Any]]] = {}
        self._samples, self._meter = ServingSamples(self._core), Meter()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return ACTOR

    async def settings(self) -> FabricConfig:
        self._tend()
        return self._config

    # -- deployers ---------------------------------------------------------------------------------------------------------

    async def deploy(self, request: DeployRequest) -> DeployRecord:
        """Begin a new deployment; `progress` tells how far it is. With a rollout it is the challenger of what answers, if something does.

        Raises: RejectedError (`rollout_running`), UserError (`bad_max_surge`).
        """
        self._tend()
        self._changes.refuse_overlap(request.name)
        spec = self._changes.spec_of(request)
        request = await self._changes.releases.numbered(request)
        self._changes.refuse_overlap(request.name)  # somebody else may have begun meanwhile
        record = self._changes.begin(request)
        run = None if spec is None else self._changes.rollouts.begin(record, spec, request.user)
        await self._keep(record.name)
        self._spawn(self._carry(record) if run is None else self._changes.rollouts.start(run, record))
        return record

    async def progress(self, name: str, key: str) -> Progress:
        """Of one deployment. Raises: UnknownNameError."""
        record = self._core.deployment(name, key)
        return Progress(record, len(self._core.reports(name, key)), num_wanted(record))

    async def abandon(self, name: str, key: str) -> None:
        """The deployer gives up: a deployment that is not ready yet is ended. Again, or later, it changes nothing."""
        with contextlib.suppress(UnknownNameError):
            if (record := self._core.deployment(name, key)).state == "starting":
                self._core.fail(name, key, "given up by who deployed it")
                await self._keep(name)
                self._spawn(self._carrier.end_app(record))

    async def delete(self, name: str) -> list[DeployRecord]:
        """Raises: UnknownNameError (`unknown_model`)."""
        records = self._core.delete(name)
        await self._keep(name)
        await self._changes.rollouts.forget(name)
        await self._changes.experiments.forget(name)
        for record in records:
            self._spawn(self._carrier.end(record))
        return records

    async def shown(self, name: str = "") -> list[dict[str, Any]]:
        """All models, or one, in the form of `model_form`. Raises: UnknownNameError (`unknown_model`)."""
        self._tend()
        names = [name] if name else sorted(self._core.table().models)
        return [self._shown(each) for each in names]

    async def usage(self) -> list[dict[str, Any]]:
        """What each model has cost and answered, and runs now: the rows of `fabric.usage_form.MODEL_ROW_KEYS` but for their shares."""
        self._tend()
        return usage_rows(self._core, self._bill)

    async def logs(self, name: str, version: str = "", max_lines: int = 200) -> str:
        """The last lines of its replicas, also of those that are gone. Raises: UnknownNameError."""
        record = self._core.record(name, version)
        return await asyncio.to_thread(self._port.logs, record, max_lines)

    # -- replicas ----------------------------------------------------------------------------------------------------------

    async def beat(self, report: ReplicaReport, tokens_mark: str = "") -> BeatAnswer:
        self._tend()
        is_wanted = self._core.beat(report, time.monotonic())
        if is_wanted:
            self._bill.note(report, self._core.deployment(report.name, report.key), time.monotonic(), time.time())
        self._tell()
        shadow, is_watched = self._core.orders(report) if is_wanted else (None, False)
        tokens = None if tokens_mark == self._tokens_mark else self._tokens
        return BeatAnswer(is_wanted, self._tokens_mark, tokens, shadow, WATCHED_BEAT_S if is_watched else 0.0)

    async def leave(self, replica_id: ReplicaId) -> None:
        self._core.leave(replica_id)
        self._tell()

    async def scaled(self, app: str, decision: Mapping[str, Any]) -> None:
        """The autoscaler's latest decision for one application: kept in memory, for people."""
        self._decisions.setdefault(app, deque(maxlen=MAX_DECISIONS)).append(dict(decision))
        name, _, key = app.rpartition(".v")
        self._samples.scaled(name, key, int(decision["to"]), str(decision["reason"]))

    # -- rollouts and experiments ------------------------------------------------------------------------------------------

    async def start_rollout(self, name: str, to: str, tier: str | None, fields: Mapping[str, Any], user: str) -> dict[str, Any]:
        """See `Changes`; so the next ones."""
        self._tend()
        return await self._changes.start_rollout(name, to, tier, fields, user)

    async def order_rollout(self, name: str, verb: str, user: str) -> dict[str, Any]:
        self._tend()
        return await self._changes.rollouts.order(name, verb, user)

    async def roll_back(self, name: str, to: str, user: str) -> dict[str, Any]:
        self._tend()
        return await self._changes.roll_back(name, to, user)

    async def rollouts(self, name: str = "") -> list[dict[str, Any]]:
        """Under way or the last, of all models or of one. Raises: UnknownNameError (`unknown_rollout`)."""
        self._tend()
        return [self._changes.rollouts.shown(name)] if name else self._changes.rollouts.listed()

    async def start_experiment(
        self, name: str, arms: Mapping[str, float] | str, metric: str, fields: Mapping[str, Any], user: str
    ) -> dict[str, Any]:
        self._tend()
        return await self._changes.start_experiment(name, arms, metric, fields, user)

    async def stop_experiment(self, name: str, user: str) -> dict[str, Any]:
        self._tend()
        return await self._changes.experiments.stop(name, user)

    async def experiments(self, name: str = "") -> list[dict[str, Any]]:
        """Under way or the last, of all models or of one. Raises: UnknownNameError (`unknown_experiment`)."""
        self._tend()
        return [self._changes.experiments.shown(name)] if name else self._changes.experiments.listed()

    async def feedback(self, rows: Sequence[tuple[str, str, str, int, float, float]]) -> None:
        """What users posted back: (model, deployment, metric, how many values, their sum, the sum of their squares)."""
        for name, key, metric, num, total, squares in rows:
            self._core.sightings.add_metric(name, key, metric, Sum(num, total, squares))

    # -- ingresses ---------------------------------------------------------------------------------------------------------

    async def table_after(self, seq: int, timeout_s: float) -> ServingTable:
        """The table as soon as it is newer than `seq`, or after `timeout_s` as it is."""
        self._tend()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._core.table().seq <= seq:
                    await self._changed.wait()
        return self._core.table()

    async def tokens_after(self, mark: str) -> BeatAnswer:
        return BeatAnswer(True, self._tokens_mark, None if mark == self._tokens_mark else self._tokens)

    async def shares(self, name: str) -> dict[str, int]:
        """Ten-thousandths of a model's calls, by Serve's application. Raises: UnknownNameError."""
        return {self._core.deployment(name, key).app: share for key, share in self._core.shares(name).items() if share}

    async def record(self, name: str, version: str = "") -> DeployRecord:
        """Of what a request may call it: a version, an alias, a deployment; empty: who answers. Raises: UnknownNameError."""
        return self._core.record(name, version)

    async def deployment(self, name: str, key: str) -> DeployRecord:
        """Raises: UnknownNameError."""
        return self._core.deployment(name, key)

    # -- carrying ----------------------------------------------------------------------------------------------------------

    async def _carry(self, record: DeployRecord) -> None:
        """A new deployment from Serve's start to its activation, or to its end where it does not start."""
        with contextlib.suppress(UnknownNameError):  # deleted meanwhile
            why = await self._carrier.bring_up(record)
            if why:
                await self._carrier.fail(record, why)
                return
            over = self._core.activate(record.name, record.key)
            self._spawn(self._learn(record))
            await self._keep(record.name)
            _log.info("activated model=%s deployment=%s retiring=%d", record.name, record.key, len(over))
            await self._carrier.end_later(over)

    # -- tending -----------------------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Start the loops, once, from the first call: an actor's constructor runs outside its event loop."""
        if not self._tasks:
            for loop in (
                self._expire,
                self._watch_tokens,
                self._reconcile,
                self._move,
                self._spread,
                self._export,
                functools.partial(bill.keep, self._bill, self._save, time.time),
                self._changes.rollouts.watch,
                self._changes.experiments.watch,
            ):
                self._spawn(loop())

    async def _expire(self) -> None:
        while True:
            for replica_id in self._core.expire(time.monotonic()):
                _log.warning("silent replica=%s", replica_id)
            self._tell()
            await asyncio.sleep(TEND_S)

    async def _export(self) -> None:
        """Metrics of models and rollouts. What is exported is looked up here, on the loop, and told to Ray beside it."""
        while True:
            await asyncio.sleep(EXPORT_S)
            try:
                await asyncio.to_thread(self._meter.export, self._samples.samples(self._changes.rollouts.of_models()))
            except Exception as error:  # nothing here may end the directory's loops
                _log.warning("metrics failed: %s", error)

    async def _move(self) -> None:
        """Models fall back to where there is room, and come back: each move is a deploy of the same source at its new place."""
        while self._movers is not None:
            await asyncio.sleep(LOOK_S)
            versions = [self._core.records(name) for name in self._core.table().models]
            # A model with a version on its way is on the move already.
            settled = [
                found for found in versions if all(one.state != "starting" for one in found) and not self._changes.is_divided(found[0].name)
            ]
            ready = [record for found in settled for record in found if record.state == "ready"]
            standing = [standing_of(record, self._core.reports(record.name, record.key)) for record in ready]
            try:
                moves = await asyncio.to_thread(self._movers.look, standing, time.monotonic())
                await asyncio.to_thread(self._claim, self._movers.rooms())
            except FabricError as error:
                _log.warning("places are not known now: %s", error)
                continue
            for record, move in moves:
                _log.info("move model=%s version=%s reason=%s to=%s", record.name, record.key, move.reason, move.choice.explain())
                place = placement_json(move.choice, ModelPrior.from_json(record.placement.get("prior")))
                await self.deploy(DeployRequest(record.name, record.user, record.settings, record.source, place, record.version))

    async def _spread(self) -> None:
        """Machines with replicas get an ingress of their own, and lose it when the replicas have gone."""
        if self._ingresses is not None:
            await spread(*self._ingresses, self._core.table)

    async def _watch_tokens(self) -> None:
        while True:
            with contextlib.suppress(FabricError):
                tokens = await asyncio.to_thread(self._documents.load, TOKENS)
                mark = hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()
                self._tokens, self._tokens_mark = tokens, mark
                await self._changes.releases.follow_aliases()
                self._tell()
            await asyncio.sleep(TOKENS_S)

    async def _reconcile(self) -> None:
        """Once after a start: what an earlier life of this actor began and did not finish."""
        await asyncio.gather(*map(self._finish, self._unfinished))

    async def _finish(self, record: DeployRecord) -> None:
        run, trial = self._changes.rollouts.challenges(record), self._changes.experiments.challenges(record)
        if record.state == "retiring":
            await self._carrier.end(record)
        elif run is not None:
            await self._changes.rollouts.start(run, record)
        elif trial is not None:
            await self._changes.experiments.go_on(trial, record)
        else:
            await self._carry(record)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a loop of the directory ended", exc_info=error)

    async def _learn(self, record: DeployRecord) -> None:
        """What its replicas found of the version; it serves without."""
        try:
            await self._changes.releases.learn(self._core.deployment(record.name, record.key))
        except FabricError as error:
            _log.warning("not noted in the registry model=%s version=%s: %s", record.name, record.version, error)

    async def _save(self, stream: str, documents: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._documents.save, stream, documents)

    async def _keep(self, name: str) -> None:
        await self._save(STREAM, {name: self._core.kept(name)})
        self._tell()

    def _tell(self) -> None:
        """Wake the ingresses that wait, if there is news."""
        if (table := self._core.table()) is not self._told:
            self._told = table
            self._changed.set()
            self._changed = asyncio.Event()

    def _shown(self, name: str) -> dict[str, Any]:
        records = self._core.records(name)
        reports = {record.key: self._core.reports(name, record.key) for record in records}
        decisions = {record.key: list(self._decisions.get(record.app, ())) for record in records}
        return model_form(self._core.table().models[name], records, reports, decisions)


def _claimed(claim: Callable[[Sequence[Room], Sequence[str]], Any], tiers: Sequence[str], rooms: Sequence[Room]) -> None:
    claim(rooms, tiers)
