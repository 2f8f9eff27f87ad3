"""A directory of models without its actor: a clock that is moved by hand, a Serve that starts at once, a journal that may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from fabric.errors import UnavailableError
from serve_apps.directory.carrier import Carrier
from serve_apps.directory.core import Directory
from serve_apps.directory.observed import Observed
from serve_apps.directory.records import DeployRecord, ReplicaReport
from serve_apps.directory.requests import AppState
from serve_apps.directory.rollouts import FACTS, STREAM, Rollouts
from serve_apps.directory.table import ReplicaId, Split
from serve_apps.rollout.spec import Canary
from serve_apps.tensors import ModelMetadata, TensorSpec

METADATA = ModelMetadata("m", ("1",), "onnx", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
FAST = range(60, 70)
SPEC = Canary(steps=[10, 100], soak=10.0, min_samples=10, guards=["error_rate<=+1%"])


class Serve:
    """Ray Serve as the directory sees it: what was started has its replicas at once, unless it is said to fail."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.apps: dict[str, int] = {}
        self.most = 0
        self.fails = ""

    def start(self, record: DeployRecord) -> None:
        self.apps[record.app] = int(record.settings["replicas"])
        self.most = max(self.most, sum(self.apps.values()))

    def state(self, record: DeployRecord) -> AppState:
        if self.fails and record.app not in ("m.v1",):
            return AppState("failed", why=self.fails)
        self.world.beat(record)
        return AppState("running", self.apps[record.app])

    def delete(self, record: DeployRecord) -> None:
        self.apps.pop(record.app, None)

    def logs(self, record: DeployRecord, max_lines: int) -> str:
        return ""


class World:
    """`kept`: what the journal has, by stream. The first version answers, with `num_replicas`."""

    def __init__(self, num_replicas: int = 2) -> None:
        self.now_s = 1000.0
        self.core = Directory()
        self.serve = Serve(self)
        self.kept: dict[str, dict[str, Any]] = {STREAM: {}, FACTS: {}}
        self.is_away = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.seen: dict[str, Observed] = {}
        self.rollouts = self._made()
        record = self.begin(num_replicas)
        self.serve.start(record)
        self.beat(record)
        self.core.activate("m", record.key)

    def _made(self) -> Rollouts:
        return Rollouts(self.core, Carrier(self.core, self.serve, self.keep), self.save, self.keep, self.spawn, lambda: self.now_s)

    def restart(self) -> None:
        """The directory's process dies, and comes back with what it kept."""
        self.rollouts = self._made()
        self.core.direct("m", None)
        self.rollouts.restore(self.kept[STREAM])

    def begin(self, num_replicas: int = 2, **settings: Any) -> DeployRecord:
        return self.core.begin("m", "ann", {"replicas": num_replicas, **settings}, "digest", 0.0)

    def beat(self, record: DeployRecord) -> None:
        for number in range(self.serve.apps[record.app]):
            observed = self.seen.get(record.key, Observed()) if number == 0 else Observed()
            report = ReplicaReport(
                ReplicaId(f"{record.key}-{number}"), "m", record.version, "h", 1000 + number, METADATA, observed=observed
            )
            self.core.beat(replace(report, deployment=record.key), self.now_s)

    def serves(self, key: str, num: int = 1000, errors: int = 0) -> None:
        before = self.seen.get(key, Observed())
        self.seen[key] = before + Observed(dict.fromkeys(FAST, num // 10), errors)
        self.beat(self.core.deployment("m", key))

    async def save(self, stream: str, documents: Mapping[str, Any]) -> None:
        if self.is_away:
            raise UnavailableError("the database is away")
        self.kept.setdefault(stream, {}).update(documents)

    async def keep(self, name: str) -> None:
        if self.is_away:
            raise UnavailableError("the database is away")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)
        self.tasks.clear()

    async def started(self, spec: Any = SPEC, **settings: Any) -> DeployRecord:
        record = self.begin(**settings)
        await self.rollouts.start(self.rollouts.begin(record, spec, "ann"), record)
        return record

    async def after(self, seconds: float = 5.0, errors: int = 0, num: int = 1000) -> None:
        """Both versions serve for a while, and are looked at."""
        for _ in range(max(1, round(seconds))):
            self.now_s += 1.0
            for record in self.core.records("m"):
                if record.state == "ready":
                    self.serves(record.key, num, errors if record.key == "2" else 0)
            await self.rollouts.look()

    @property
    def split(self) -> Split | None:
        return self.core.table().models["m"].split
