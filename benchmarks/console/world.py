"""The real console over a large fabric that is made up: `python -m benchmarks.console.world --port 8099`.

10,000 jobs wait, 1,000 nodes, 100,000 leases in the last day; jobs start, end and are submitted all the time. Only the pools and the
API behind it are stand-ins: pages that are handed on know jobs, and little else. It prints one JSON object: where it is, and tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.console.made_history import Attempt, History, Maker
from benchmarks.console.made_tasks import task_profiles
from benchmarks.console.stand_in_api import StandInApi
from benchmarks.console.whole_api import WholeApi
from fabric import __version__
from fabric.api.serve import ApiServer
from fabric.api.tokens import Tokens
from fabric.console.app import Console, create_console
from fabric.console.page_files import PAGE
from fabric.errors import FabricError
from fabric.job_events import JobFact, JobSubmitted
from fabric.journal import Journal
from fabric.plane.driver import STREAM
from fabric.types import DEFAULT_TIERS, NodeUsage, PoolSnapshot
from pools.flavors import load_catalogue
from profiler.estimate import TaskProfile

TICK_S = 0.2


class MadePools:
    """The pools of the made-up fabric: a few nodes are cordoned, the use of all goes up and down."""

    def __init__(self, history: History, seed: int) -> None:
        self._history, self._random = history, random.Random(seed)
        self._closed = {node.node_id for node in history.nodes if self._random.random() < 0.02}

    def snapshots(self) -> Mapping[str, PoolSnapshot | FabricError]:
        chance, tiers = self._random, {}
        for tier in DEFAULT_TIERS:
            nodes = []
            for node in self._history.nodes:
                if node.tier == tier:
                    gpu_frac = None if node.flavor == "cpu" else chance.random()
                    usage = NodeUsage(chance.random(), int(chance.random() * 256e9), int(256e9), gpu_frac)
                    health: Any = "cordoned" if node.node_id in self._closed else "ready"
                    nodes.append(dataclasses.replace(node, usage=usage, health=health))
            tiers[tier] = PoolSnapshot(tier, 1, tuple(nodes))
        return tiers

    def slow_factors(self) -> Mapping[str, float]:
        return {self._history.nodes[0].node_id: 1.7}

    def task_profiles(self) -> Sequence[TaskProfile]:
        return task_profiles()


class Life:
    """New facts all the time: `rate` jobs a second end, start and are submitted."""

    def __init__(self, maker: Maker, journal: Journal, seed: int) -> None:
        self._maker, self._journal, self._random = maker, journal, random.Random(seed)
        self._lock = threading.Lock()
        self._attempts = {attempt.spec.job_id: attempt.number for attempt in maker.history.running.values()}

    def start(self, rate: float) -> None:
        threading.Thread(target=self._loop, args=(rate,), daemon=True).start()

    def step(self) -> float:
        """A job ends, another takes its place, a new one waits; when that was written."""
        history, chance, now_s = self._maker.history, self._random, time.time()
        with self._lock:
            lane = chance.choice(list(history.running))
            facts: list[JobFact] = [*self._maker.end(history.running.pop(lane))]
            spec = self._maker.spec(now_s, 1.0, "a100-80g")
            history.waiting.append(spec)
            facts.append(JobSubmitted(spec, spec.user))
            first = history.waiting.pop(0)
            number = self._attempts[first.job_id] = self._attempts.get(first.job_id, 0) + 1
            attempt: Attempt
            attempt, begun = self._maker.begin(first, number, lane)
            history.running[lane] = attempt
            self.write(*facts, *begun)
        return now_s

    def write(self, *facts: JobFact) -> None:
        self._journal.append_all(STREAM, facts)

    def _loop(self, rate: float) -> None:
        due = 0.0
        while True:
            time.sleep(TICK_S)
            due += rate * TICK_S
            while due >= 1.0:
                due -= 1.0
                self.step()


@dataclasses.dataclass
class World:
    """`tokens`: by scope, of the user ann."""

    console: Console
    life: Life
    history: History
    journal: Journal
    tokens: dict[str, str]
    num_facts: int


def make_world(
    folder: Path,
    *,
    jobs: int = 10_000,
    nodes: int = 1_000,
    leases: int = 100_000,
    seed: int = 1,
    page: Path = PAGE,
    make_api: Callable[[Callable[..., None]], StandInApi] = StandInApi,
    make_pools: Callable[[History, int], MadePools] = MadePools,
) -> World:
    """The journal is written to `folder`, which must be empty."""
    catalogue = load_catalogue({}, tiers=DEFAULT_TIERS)
    journal = Journal(f"sqlite:///{folder / 'journal.db'}")
    maker = Maker(catalogue, num_nodes=nodes, num_leases=leases, num_waiting=jobs, seed=seed, now_s=time.time())
    num_facts = maker.write(journal)
    tokens = Tokens(journal)
    minted = {scope: tokens.mint("ann", (scope,))[0] for scope in ("admin", "operate", "read", "submit")}
    life = Life(maker, Journal(f"sqlite:///{folder / 'journal.db'}"), seed)
    api = make_api(life.write)
    console = create_console(
        journal,
        pools=make_pools(maker.history, seed),
        api=api,
        door=api,
        catalogue=catalogue,
        tiers=DEFAULT_TIERS,
        name="made-up",
        version=__version__,
        page=page,
    )
    api.follower = console.follower
    return World(console, life, maker.history, journal, minted, num_facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    for name, default in (("jobs", 10_000), ("nodes", 1_000), ("leases", 100_000), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rate", type=float, default=4.0, help="jobs a second that end, start and are submitted")
    parser.add_argument("--page", type=Path, default=PAGE, help="the folder with the page's files")
    parser.add_argument("--whole", action="store_true", help="the stand-in API answers every page that the console's page asks")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.monotonic()
        make_api = WholeApi if args.whole else StandInApi
        sizes = {"jobs": args.jobs, "nodes": args.nodes, "leases": args.leases, "seed": args.seed}
        world = make_world(Path(folder), **sizes, page=args.page, make_api=make_api)
        world.console.follower.start()
        world.life.start(args.rate)
        url = ApiServer(world.console.app, port=args.port).start()
        made_s = round(time.monotonic() - began_s, 1)
        print(json.dumps({"url": url, "tokens": world.tokens, "facts": world.num_facts, "made_s": made_s}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
