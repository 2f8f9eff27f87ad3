"""Who is measured: ours and its peers, started in one run, each alone on the processors while it is its turn."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import signal
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
from serial import http_ms

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
_SETTLE_AT_MOST_S = 40.0
_NUM_STEADY = 50


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
    # Ended from outside, as by `timeout`, it must still end its servers, some of which may be frozen.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return args


def chosen(names: str) -> tuple[Recipe, ...]:
    """The peers of these names, all for none. Raises: `SystemExit` for a name that no peer has."""
    wanted = set(filter(None, names.split(",")))
    unknown = wanted - {recipe.name for recipe in PEERS}
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(recipe.name for recipe in PEERS)}")
    return tuple(recipe for recipe in PEERS if not wanted or recipe.name in wanted)


@contextlib.contextmanager
def running(ours: Ours, recipes: Sequence[Recipe], venvs: Path, body: bytes) -> Iterator[tuple[dict[str, Server], dict[str, str]]]:
    """(the servers that run, frozen, ours first; why the others do not). All answer `body`, and are ended at the end.

    Raises: `NotStarted` for ours.
    """
    servers: dict[str, Server] = {}
    skipped: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for recipe in (ours, *recipes):
            try:
                servers[recipe.name] = _started(stack, recipe, venvs, body)
            except (NotInstalled, NotStarted) as error:
                if recipe is ours:
                    raise
                skipped[recipe.name] = str(error)
                print(f"{recipe.name} is left out: {error}", file=sys.stderr)
        yield servers, skipped


def _started(stack: contextlib.ExitStack, recipe: Recipe, venvs: Path, body: bytes) -> Server:
    # A busy machine can make one start of a Ray time out.
    for left in reversed(range(_NUM_TRIES)):
        server = Server(recipe)
        try:
            server.install(venvs)
            server.start()
            settle(server, body)
        except (NotStarted, OSError, RuntimeError, http.client.HTTPException) as error:
            server.stop()
            if not left:
                raise NotStarted(str(error)) from error
            continue
        except BaseException:
            server.stop()
            raise
        stack.callback(server.stop)
        server.freeze()
        return server
    raise AssertionError


def in_turns(
    servers: Mapping[str, Server], skipped: dict[str, str], measure: Callable[[Server], T], *, body: bytes, rounds: int
) -> dict[str, list[T]]:
    """What `measure` returned of each server, `rounds` times, one server after the other; all others are frozen meanwhile.

    A peer that ends or errs on the way is left out, and said in `skipped`. Raises: what `measure` raises of ours.
    """
    seen: dict[str, list[T]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name in tuple(seen):
            server = servers[name]
            server.thaw()
            try:
                settle(server, body)
                seen[name].append(measure(server))
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                error.add_note(f"{name}, whose log ends with:\n{server.log_end()}")
                if name == "ours":
                    raise
                skipped[name] = f"{type(error).__name__}: {error}"
                print(f"{name} is left out: {error}\n{server.log_end()}", file=sys.stderr)
                del seen[name]
            server.freeze()
    return seen


def settle(server: Server, body: bytes) -> None:
    """Until a server that was frozen has got over the time that it missed (late heartbeats, lost connections).

    Raises: `RuntimeError`, OSError if it does not answer steadily in time.
    """
    end_s = time.monotonic() + _SETTLE_AT_MOST_S
    time.sleep(SETTLE_S)
    while True:
        try:
            http_ms(server.url, body, count=_NUM_STEADY)
        except (OSError, RuntimeError, http.client.HTTPException):
            if time.monotonic() > end_s:
                raise
            time.sleep(SETTLE_S)
        else:
            return
