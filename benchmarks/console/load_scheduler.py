"""A scheduler under full load, as a process of its own: a real job plane with its API, whose jobs end as fast as it takes that.

Reads `round SECONDS` from stdin and answers with what was done in it. Runners do nothing but tell that a job has ended; each job that ends
is replaced by one that waits, and that by a new one. Without the optimiser.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.console.made_history import machines
from fabric.api.address import ADDRESS_FILE, TOKEN_FILE
from fabric.api.app import create_app
from fabric.api.port import Submission
from fabric.api.serve import ApiServer
from fabric.api.tokens import Tokens, ensure_token_file, read_token_file
from fabric.artefacts import ArtefactStore
from fabric.job import Grant, JobId, JobSpec, LaunchSpec, Outcome, Shape
from fabric.job_events import JobEnded, JobStarted, NodesSeen
from fabric.job_ids import new_job_id
from fabric.journal import Journal
from fabric.plane.driver import WallClock
from fabric.plane.plane import JobPlane
from fabric.policy import Policy
from fabric.scheduler.core import Core
from fabric.types import DEFAULT_TIERS
from pools.flavors import load_catalogue

NUM_RUNNERS = 4
BATCH = 500


class Runners:
    """See `fabric.ports.RunnerPort`: remembers what runs."""

    def __init__(self) -> None:
        self.running: list[tuple[JobId, int]] = []
        self.lock = threading.Lock()

    def launch(self, epoch: int, spec: JobSpec, how: LaunchSpec, attempt: int, grant: Grant) -> None:
        with self.lock:
            self.running.append((spec.job_id, attempt))

    def preempt(self, epoch: int, job_id: JobId, attempt: int) -> None:
        raise AssertionError("nobody is preempted here")

    def kill(self, epoch: int, job_id: JobId, attempt: int, outcome: Outcome) -> None:
        raise AssertionError("nobody is killed here")

    def living(self) -> Sequence[tuple[JobId, int]]:
        return self.running

    def close(self) -> None:
        pass


class Scheduler:
    def __init__(self, folder: Path, num_jobs: int, num_nodes: int) -> None:
        catalogue = load_catalogue({}, tiers=DEFAULT_TIERS)
        self.journal = Journal(f"sqlite:///{folder / 'journal.db'}")
        store = ArtefactStore(f"file://{folder / 'store'}")
        core = Core(catalogue, Policy(restart_s=0.0), is_planning=False)
        self.plane = JobPlane(core, self.journal, store, WallClock(), 1)
        self.runners = Runners()
        self.plane.start(self.runners)
        nodes, lanes = machines(catalogue, num_nodes)
        self.plane.driver.tell_and_wait(NodesSeen(tuple(nodes)))
        self._random = random.Random(1)
        self._count, self._is_open = 0, threading.Event()
        num_held = sum(int(units) for _, units in lanes)
        for _ in range(0, num_jobs + num_held, BATCH):
            self.plane.submit([self._job() for _ in range(BATCH)], "ann")
        tokens = Tokens(self.journal)
        ensure_token_file(folder / TOKEN_FILE, tokens, "ann")
        self.token = read_token_file(folder / TOKEN_FILE)
        app = create_app(self.plane, tokens)
        self.url = ApiServer(app, address_file=folder / ADDRESS_FILE).start()
        for _ in range(NUM_RUNNERS):
            threading.Thread(target=self._end_jobs, daemon=True).start()

    def round(self, seconds: float) -> dict[str, float]:
        """`{jobs, jobs_per_s, cpu_s}`."""
        began, cpu_s, begun_s = self._count, time.process_time(), time.monotonic()
        self._is_open.set()
        time.sleep(seconds)
        self._is_open.clear()
        jobs, took_s = self._count - began, time.monotonic() - begun_s
        return {"jobs": jobs, "jobs_per_s": jobs / took_s, "cpu_s": time.process_time() - cpu_s}

    def _end_jobs(self) -> None:
        while True:
            self._is_open.wait()
            with self.runners.lock:
                index = self._random.randrange(len(self.runners.running))
                self.runners.running[index], last = self.runners.running[-1], self.runners.running[index]
                self.runners.running.pop()
            self.plane.report(1, [JobStarted(*last), JobEnded(*last, "ok")])
            self.plane.submit([self._job()], "ann")
            self._count += 1

    def _job(self) -> Submission:
        name, user = f"job-{self._random.randrange(10**6)}", self._random.choice(("ann", "bob", "cho"))
        shape = Shape("t4" if self._random.random() < 0.4 else "a100-80g", accelerators=1, cpus=0.0)
        spec = JobSpec(new_job_id(), name, user, "default", "", "program", (shape,), "family", time.time())
        return Submission(spec, LaunchSpec("program", "true"), summary={"command": "true", "asks": "1"})


def main() -> None:
    folder, num_jobs, num_nodes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    scheduler = Scheduler(folder, num_jobs, num_nodes)
    print(json.dumps({"url": scheduler.url, "token": scheduler.token}), flush=True)
    for line in sys.stdin:
        print(json.dumps(scheduler.round(float(line.split()[1]))), flush=True)


if __name__ == "__main__":
    main()
