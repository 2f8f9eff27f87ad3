"""A browser before a console that serves a small made-up fabric: what the tests of the page look through.

The server is the real one; only the pools and the API behind it are made up (`benchmarks/console`). Facts come when a test says so.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.console.whole_api import WholeApi
from benchmarks.console.world import World, make_world
from fabric.api.serve import ApiServer

NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
WIDE, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}


@dataclass
class Site:
    """The made-up fabric and its server; `stop` and `start` keep the port."""

    world: World
    api: WholeApi
    server: ApiServer
    url: str

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server = ApiServer(self.world.console.app, port=urlsplit(self.url).port or 0)
        self.server.start()

    def ask(self, path: str, scope: str = "admin") -> Any:
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {self.world.tokens[scope]}"})
        with urllib.request.urlopen(request, timeout=10.0) as answer:
            return orjson.loads(answer.read())

    def jobs(self, state: str, limit: int = 1) -> list[Any]:
        found: list[Any] = self.ask(f"/v1/console/jobs?state={state}&limit={limit}")["jobs"]
        return found


@contextmanager
def made_up_site(folder: Path, *, jobs: int = 400, nodes: int = 40, leases: int = 3_000) -> Iterator[Site]:
    apis: list[WholeApi] = []

    def make_api(write: Any) -> WholeApi:
        apis.append(WholeApi(write))
        return apis[0]

    world = make_world(folder, jobs=jobs, nodes=nodes, leases=leases, make_api=make_api)
    world.console.follower.start()
    server = ApiServer(world.console.app)
    site = Site(world, apis[0], server, server.start())
    try:
        yield site
    finally:
        site.stop()
        world.console.follower.close()


@dataclass
class Witness:
    """`seen`: all that a page did that it must not do. `dropped`: what the browser dropped because the machine's networks changed."""

    seen: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def watch(self, page: Any, url: str) -> None:
        page.on("console", lambda message: message.type in ("error", "warning") and self._hear(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith((url, "blob:", "data:")) or self.seen.append(f"asked {request.url}"))

    def _hear(self, text: str) -> None:
        (self.dropped if NETWORK_CHANGED in text else self.seen).append(text)
