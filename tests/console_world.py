"""The console over a job plane of this machine, without a socket: its pools are two nodes, its API is the plane's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fabric.api_client import Reply
from fabric.console.app import create_console
from fabric.console.sources import HandedOn
from fabric.errors import FabricError, UnavailableError
from fabric.types import PoolSnapshot
from profiler.estimate import TaskProfile
from tests.api_world import World
from tests.asgi_transport import AsgiTransport
from tests.fleet import FLAVORS
from tests.local_plane import NODES, UNTIL_S

HOST = "127.0.0.1:4321"
INDEX = "<!doctype html><title>console</title>"


class Pools:
    """`answers` may be changed by a test."""

    def __init__(self) -> None:
        self.profiles: Sequence[TaskProfile] | FabricError = ()
        self.answers: dict[str, PoolSnapshot | FabricError] = {
            tier: PoolSnapshot(tier, 1, tuple(node for node in NODES if node.tier == tier)) for tier in ("hot", "warm", "cold")
        }

    def snapshots(self) -> Mapping[str, PoolSnapshot | FabricError]:
        return self.answers

    def slow_factors(self) -> Mapping[str, float]:
        return {"big-1": 1.5}

    def task_profiles(self) -> Sequence[TaskProfile]:
        if isinstance(self.profiles, FabricError):
            raise self.profiles
        return self.profiles


class Api:
    """`ApiSource` and `ApiDoor` over the API of a world; away while `is_away`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_away = False
        self.model_list: list[Any] = []
        self.sent: list[tuple[str, str, Mapping[str, str]]] = []

    def open_jobs(self) -> list[Mapping[str, Any]]:
        self._must_be_there()
        jobs: list[Mapping[str, Any]] = self._world.api("root").get("/v1/jobs", {"state": "PENDING,ADMITTED,RUNNING,PREEMPTING"})["jobs"]
        return jobs

    def models(self) -> Any:
        return {"models": list(self.model_list)}, {"rollouts": []}

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HandedOn:
        self._must_be_there()
        self.sent.append((method, target, headers))
        sent = {**headers, "Content-Length": str(len(body))}
        reply = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._world.transport._call(method, target, body, sent), self._world.transport._loop)
        )
        return HandedOn(reply.status, reply.headers, _once(reply.body))

    def _must_be_there(self) -> None:
        if self.is_away:
            raise UnavailableError("the fabric's API does not answer")


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class ConsoleWorld(World):
    """`see("ann", path)` is one page of the console as ann's, as JSON; `look()` brings the console up to date."""

    def __init__(self, folder: Path, *, runs: bool = False, hosts: tuple[str, ...] = ()) -> None:
        super().__init__(folder, runs=runs)
        page = folder / "page"
        (page / "vendor").mkdir(parents=True)
        (page / "index.html").write_text(INDEX, encoding="utf-8")
        (page / "vendor" / "big.js").write_text("// " + "x" * 5000, encoding="utf-8")
        (page / "secret.txt").write_text("not of the page", encoding="utf-8")
        self.pools, self.door = Pools(), Api(self)
        self.console = create_console(
            self.journal,
            pools=self.pools,
            api=self.door,
            door=self.door,
            catalogue=FLAVORS,
            tiers=("hot", "warm", "cold"),
            name="lab",
            version="1.2",
            hosts=hosts,
            page=page,
        )
        self.front = AsgiTransport(self.console.app)
        self.look()

    def look(self) -> None:
        follower = self.console.follower
        follower.follow()
        follower.look()
        follower._try("api", follower.ask)

    def send(self, user: str | None, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        bearer = {} if user is None else {"Authorization": f"Bearer {self.secrets.get(user, user)}"}
        return self.front.send(method, path, body, {"Host": HOST, **bearer, **headers}, UNTIL_S)

    def see(self, user: str, path: str, *, status: int = 200) -> Any:
        reply = self.send(user, "GET", path)
        assert reply.status == status, reply
        return json.loads(reply.body)

    def token_of(self, user: str, *scopes: str, queues: tuple[str, ...] = ()) -> str:
        """A further token; the console knows it at once."""
        token, _ = self.tokens.mint(user, scopes, queues=queues)
        self.console_tokens_are_old()
        return token

    def console_tokens_are_old(self) -> None:
        """As if a while had passed since the console read them."""
        self.console.tokens.read_s = float("-inf")

    def close(self) -> None:
        self.console.follower.close()
        self.front.close()
        super().close()


@contextmanager
def a_console(folder: Path, **options: Any) -> Iterator[ConsoleWorld]:
    world = ConsoleWorld(folder, **options)
    try:
        yield world
    finally:
        world.close()
