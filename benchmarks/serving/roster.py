"""Who is measured: ours and its peers, started in one run, each alone on the processors while it is its turn."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ours import Ours
from peers.bentoml import BentoMl
from peers.litserve import LitServe
from peers.mlserver import MlServer
from peers.ray_serve import RAY_SERVE, RAY_SERVE_HAPROXY, RAY_SERVE_HAPROXY_THROUGHPUT
from peers.recipe import Recipe
from peers.server import NotStarted, Server
from peers.triton import Triton
from peers.venv import DEFAULT_VENVS, NotInstalled
from priority import raise_priority

T = TypeVar("T")

PEERS: tuple[Recipe, ...] = (
    RAY_SERVE_HAPROXY,
    RAY_SERVE_HAPROXY_THROUGHPUT,
    RAY_SERVE,
    Triton(),
    MlServer(),
    LitServe(),
    BentoMl(),
)
_NUM_TRIES = 2
SETTLE_S = 2.5
"""After a server was frozen: what it does about the time that it missed (late heartbeats, lost connections) is over then."""


def options(description: str, *, rounds: int) -> argparse.Namespace:
    """Parse what all benchmarks of this folder take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--venvs", type=Path, default=DEFAULT_VENVS, help="where the peers' environments are kept")
    parser.add_argument("--peers", default="", help="only these, separated by commas")
    parser.add_argument("--nice", type=int, default=0, help="niceness of all servers and clients; negative ones need the right to it")
    args = parser.parse_args()
    if args.nice:
        raise_priority(args.nice)
    return args


def chosen(names: str) -> tuple[Recipe, ...]:
    """The peers of these names, all for none. Raises: `SystemExit` for a name that no peer has."""
    wanted = set(filter(None, names.split(",")))
    unknown = wanted - {recipe.name for recipe in PEERS}
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(recipe.name for recipe in PEERS)}")
    return tuple(recipe for recipe in PEERS if not wanted or recipe.name in wanted)


@contextlib.contextmanager
def running(ours: Ours, recipes: Sequence[Recipe], venvs: Path) -> Iterator[tuple[dict[str, Server], dict[str, str]]]:
    """(the servers that run, frozen, ours first; why the others do not). All are ended at the end. Raises: `NotStarted` for ours."""
    servers: dict[str, Server] = {}
    skipped: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for recipe in (ours, *recipes):
            try:
                servers[recipe.name] = _started(stack, recipe, venvs)
            except (NotInstalled, NotStarted) as error:
                if recipe is ours:
                    raise
                skipped[recipe.name] = str(error)
                print(f"{recipe.name} is left out: {error}", file=sys.stderr)
        yield servers, skipped


def _started(stack: contextlib.ExitStack, recipe: Recipe, venvs: Path) -> Server:
    # A busy machine can make one start of a Ray time out.
    for left in reversed(range(_NUM_TRIES)):
        server = Server(recipe)
        try:
            server.install(venvs)
            server.start()
        except NotStarted:
            server.stop()
            if not left:
                raise
            continue
        except BaseException:
            server.stop()
            raise
        stack.callback(server.stop)
        server.freeze()
        return server
    raise AssertionError


def in_turns(servers: Mapping[str, Server], measure: Callable[[Server], T], *, rounds: int) -> dict[str, list[T]]:
    """What `measure` returned of each server, `rounds` times, one server after the other; all others are frozen meanwhile."""
    seen: dict[str, list[T]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            server.thaw()
            time.sleep(SETTLE_S)
            try:
                seen[name].append(measure(server))
            finally:
                server.freeze()
    return seen
