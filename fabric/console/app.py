"""The console as one ASGI application: its page at `/`, its own pages under `/v1/console`, everything else under `/v1` handed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from starlette.types import ASGIApp

from fabric.api.app import describe_token, on_errors
from fabric.api.serve import LOOPBACK
from fabric.console.answers import Answers
from fabric.console.events import Events
from fabric.console.follower import Follower
from fabric.console.guard import Guard
from fabric.console.hand_on import handing_on
from fabric.console.known_tasks import KnownTasks
from fabric.console.known_tokens import KnownTokens
from fabric.console.page_files import PAGE, page_routes
from fabric.console.routes import console_routes
from fabric.console.sources import ApiDoor, ApiSource, PoolsSource
from fabric.journal import Journal
from fabric.routing import RoutingPolicy
from fabric.types import Flavor

OPENAPI = "/v1/console/openapi.json"


class Console(NamedTuple):
    """`follower.start()` keeps it up to date, `follower.close()` ends that."""

    app: ASGIApp
    follower: Follower
    events: Events
    tokens: KnownTokens


def create_console(
    journal: Journal,
    *,
    pools: PoolsSource,
    api: ApiSource,
    door: ApiDoor,
    catalogue: Mapping[str, Flavor],
    tiers: Sequence[str],
    name: str,
    version: str,
    host: str = LOOPBACK,
    hosts: Collection[str] = (),
    page: Path = PAGE,
    routing: RoutingPolicy | None = None,
    series_file: Path | None = None,
    now_s: Callable[[], float] = time.time,
) -> Console:
    """Over a journal whose jobs and tokens are shown; `pools`, `api` and `door` are how everything else is reached. `host`: where it
    listens; `hosts`: further names that it is asked by. `routing`: by which tasks' calls are
    routed. `series_file` keeps the last hour's figures. Raises: FabricError (`journal`,
    `journal_newer`)."""
    follower = Follower(journal, pools, api, catalogue, tiers, series_file=series_file, now_s=now_s)
    answers = Answers(follower, KnownTasks(pools), routing or RoutingPolicy(), name, version)
    tokens = KnownTokens(journal)
    events = Events(follower, answers)
    app = FastAPI(
        title="tierfabric console",
        version="1",
        description="What the console shows, as JSON. Every page needs a token; what is not here is the API's, under the same address.",
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=on_errors(OPENAPI),
    )
    app.include_router(console_routes(follower, answers, tokens, events))
    app.include_router(handing_on(door))
    app.include_router(page_routes(page))
    describe_token(app)
    return Console(Guard(app, host=host, hosts=hosts), follower, events, tokens)
