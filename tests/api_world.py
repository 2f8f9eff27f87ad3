"""The API over a job plane in memory, reached without a socket: what the tests of API, client and command line share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fabric.api.app import create_app
from fabric.api_client import ApiClient, Reply
from fabric.jobs import Jobs
from tests.asgi_transport import AsgiTransport
from tests.memory_plane import MemoryPlane, tokens_for

USERS = {"ann": "submit", "bob": "submit,read", "ops": "operate,submit", "root": "admin"}
UNTIL_S = 20.0


class World:
    """`jobs("ann")` is ann's client; `ask("ann", "GET", path)` one request as hers, errors as replies."""

    def __init__(self, folder: Path, *, runs: bool = True) -> None:
        self.plane = MemoryPlane(folder, runs=runs)
        self.tokens, self.secrets = tokens_for(**USERS)
        self.app = create_app(self.plane, self.tokens)
        self.transport = AsgiTransport(self.app)
        self.told: list[str] = []

    def api(self, user: str) -> ApiClient:
        return ApiClient(self.transport, lambda: self.secrets[user], patience_s=0.0)

    def jobs(self, user: str = "ann") -> Jobs:
        return Jobs(self.api(user), tell=self.told.append)

    def ask(self, user: str | None, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        bearer = {} if user is None else {"Authorization": f"Bearer {self.secrets.get(user, user)}"}
        return self.transport.send(method, path, body, {**bearer, **headers}, UNTIL_S)

    def close(self) -> None:
        self.plane.close()
        self.transport.close()


@contextmanager
def a_world(folder: Path, **options: Any) -> Iterator[World]:
    world = World(folder, **options)
    try:
        yield world
    finally:
        world.close()
