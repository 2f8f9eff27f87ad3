"""The API over a job plane of this machine, reached without a socket: what the tests of API, client and command line share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fabric.api.app import create_app
from fabric.api_client import ApiClient, Reply
from fabric.artefacts import ArtefactStore
from fabric.jobs import Jobs
from fabric.plane.what_if import WhatIfs
from fabric.registry.registry import Registry
from fabric.registry.sql import SqlVersions
from tests.asgi_transport import AsgiTransport
from tests.local_plane import UNTIL_S, LocalPlane

USERS = {"ann": "submit", "bob": "submit,read", "ops": "operate,submit", "root": "admin"}


class World(LocalPlane):
    """`jobs("ann")` is ann's client; `ask("ann", "GET", path)` one request as hers, errors as replies."""

    def __init__(self, folder: Path, *, runs: bool = True) -> None:
        super().__init__(folder, runs=runs)
        self.secrets = {user: self.tokens.mint(user, scopes.split(","))[0] for user, scopes in USERS.items()}
        self.served: dict[str, set[int]] = {}
        self.versions = SqlVersions(f"sqlite:///{folder / 'journal.db'}")
        self.registry = Registry(self.versions, ArtefactStore(f"file://{self.store_folder}"), lambda name: self.served.get(name, ()))
        self.what_ifs = WhatIfs(self.plane, f"sqlite:///{folder / 'journal.db'}")
        self.app = create_app(self.plane, self.tokens, registry=self.registry, what_ifs=self.what_ifs)
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
        self.transport.close()
        self.what_ifs.close()
        self.versions.close()
        super().close()


@contextmanager
def a_world(folder: Path, **options: Any) -> Iterator[World]:
    world = World(folder, **options)
    try:
        yield world
    finally:
        world.close()
