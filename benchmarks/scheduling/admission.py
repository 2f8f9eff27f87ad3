"""Kueue's own scheduler tests in real time, with the durable journal on: cohorts of queues, jobs that only pass the time.

The test's description (`kueue/*-generator.yaml`, `*-rangespec.yaml`) is read from FABRIC_DATA_DIR. As in the product, a submission
counts once it is on disk, what is decided is written before it is performed, and run times are learnt from jobs that have ended. As in
Kueue's recorder, `usage_frac` is the time integral of what queues hold over their nominal quotas, from the first event to the last.
Kueue's figures were measured with a Kubernetes API server and its etcd in the loop, which this benchmark does not have.
"""

from __future__ import annotations

import argparse
import cProfile
import heapq
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fabric.job import JobEstimate, JobId, JobSpec, Shape
from fabric.job_events import (
    JOURNALLED,
    JobCommand,
    JobDispatched,
    JobEnded,
    JobEstimated,
    JobFact,
    JobStarted,
    JobSubmitted,
    JobVacated,
    Launch,
    NodesSeen,
    Preempt,
)
from fabric.journal import Batch, Committer, Journal
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.core import Core
from fabric.show import table
from fabric.types import Flavor, Node

DATA_DIR = Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[2] / ".." / "shared" / "data")) / "kueue"
CPU = Flavor("cpu", "cold", "cpu", "x86", "CPU", usd_per_h=0.04)
CPUS_PER_NODE = 64
STREAM = "jobs"
MOST_AT_ONCE = 512
"""Submissions written together; the rest comes with the next round, so that jobs start in between."""
PEER = {
    "baseline": {"wall_s": 351.1, "usage_frac": 0.559, "large_s": 16.5, "medium_s": 76.8, "small_s": 215.5},
    "large-scale": {"wall_s": 1179.4, "usage_frac": 0.386, "large_s": 105.6, "medium_s": 256.4, "small_s": 700.4},
}
GOALS = {"baseline": {"wall_s": "<= 80", "usage_frac": ">= 0.85"}, "large-scale": {"wall_s": "<= 60"}}


@dataclass(slots=True)
class Workload:
    """`due_s`: when it is submitted; `run_s`: how long it passes the time."""

    spec: JobSpec
    cls: str
    due_s: float
    run_s: float


@dataclass(slots=True)
class Test:
    """What a generator's description comes to."""

    policy: Policy
    nodes: tuple[Node, ...]
    workloads: list[Workload]
    nominal: float
    bound_s: float


@dataclass(slots=True)
class Usage:
    """The time integral of what is held."""

    held: float = 0.0
    integral: float = 0.0
    as_of_s: float = 0.0

    def change(self, units: float, now_s: float) -> None:
        self.integral += self.held * (now_s - self.as_of_s)
        self.held, self.as_of_s = self.held + units, now_s


def read_test(name: str) -> Test:
    document = yaml.safe_load((DATA_DIR / f"{name}-generator.yaml").read_text())
    queues: list[QueuePolicy] = []
    workloads: list[Workload] = []
    values: dict[str, int] = {}
    bounds = []
    for cohort in document["cohorts"]:
        for c in range(cohort["count"]):
            work = nominal = 0.0
            for kind in cohort["queuesSets"]:
                for q in range(kind["count"]):
                    queue = _queue(kind, f"{cohort['className']}-{c}-{kind['className']}-{q}", f"{cohort['className']}-{c}")
                    made = list(_workloads(kind["workloadsSets"], queue.name, values))
                    work += sum(one.run_s * one.spec.shapes[0].cpus for one in made)
                    nominal += kind["nominalQuota"]
                    queues.append(queue)
                    workloads += made
            bounds.append(work / nominal)
    workloads.sort(key=lambda one: one.due_s)
    classes = tuple(PriorityClass(cls, value=value) for cls, value in values.items())
    total = sum(queue.nominal["cpu"] for queue in queues)
    num_nodes = int(3 * total / CPUS_PER_NODE)
    nodes = tuple(Node(f"n{i}", f"n{i}", CPU.tier, CPU.name, {"CPU": float(CPUS_PER_NODE), "memory": 64e9}) for i in range(num_nodes))
    # A job that passes the time has nothing to load.
    policy = Policy(name, classes, tuple(queues), restart_s=0.0)
    return Test(policy, nodes, workloads, total, max(bounds))


def _queue(kind: dict[str, Any], name: str, cohort: str) -> QueuePolicy:
    return QueuePolicy(
        name,
        cohort,
        nominal={"cpu": float(kind["nominalQuota"])},
        borrowing_limit={"cpu": float(kind["borrowingLimit"])},
        reclaim_within_cohort=kind["reclaimWithinCohort"],
        within_queue=kind["withinClusterQueue"],
    )


def _workloads(sets: list[dict[str, Any]], queue: str, values: dict[str, int]) -> Iterator[Workload]:
    for one in sets:
        for number in range(one["count"]):
            due_s = number * one["creationIntervalMs"] / 1e3
            for kind in one["workloads"]:
                cls = kind["className"]
                values[cls] = kind["priority"]
                name = f"{queue}-{cls}-{number}"
                shape = Shape("cpu", cpus=float(kind["request"]))
                spec = JobSpec(JobId(name), name, "kueue", queue, cls, "program", (shape,), cls, due_s)
                yield Workload(spec, cls, due_s, kind["runtimeMs"] / 1e3)


@dataclass(slots=True)
class History:
    """Mean run times of classes, as the profiler learns them."""

    sums: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, cls: str, run_s: float) -> bool:
        """True: it is the first of its class."""
        num, total = self.sums.get(cls, (0, 0.0))
        self.sums[cls] = (num + 1, total + run_s)
        return num == 0

    def estimate(self, cls: str) -> JobEstimate | None:
        if cls not in self.sums:
            return None
        num, total = self.sums[cls]
        return JobEstimate(1.0, {(0, CPU.name): num / total}, 0.1)


class Driver:
    """Stands for API, runners, profiler and clock; everything but the writes to disk is in one thread."""

    def __init__(self, test: Test, committer: Committer) -> None:
        self.test, self.committer = test, committer
        self.core = Core({CPU.name: CPU}, test.policy, is_planning=False)
        self.workloads = {JobId(one.spec.job_id): one for one in test.workloads}
        self.history, self.usage = History(), Usage()
        self.admitted_s: dict[JobId, float] = {}
        self.num_evicted = self.num_left = 0
        self.busy_s = 0.0
        self.commit_s: list[float] = []
        self._coming = deque(test.workloads)
        self._submitting: deque[tuple[Future[Any], list[Workload]]] = deque()
        self._deciding: deque[tuple[Future[Any], list[JobCommand], float]] = deque()
        self._ends: list[tuple[float, JobId, int]] = []
        self._since: dict[JobId, tuple[int, float]] = {}
        self._facts: list[JobFact] = []
        self._started = 0.0

    def run(self) -> float:
        """Seconds from the first submission to the last end."""
        self.core.handle(NodesSeen(self.test.nodes), now_s=0.0)
        self.num_left = len(self.workloads)
        # The thread that writes to disk must not wait 5 ms for the interpreter after every row.
        sys.setswitchinterval(0.0005)
        self._started = time.perf_counter()
        while self.num_left:
            now_s = self._now_s()
            self._submit(now_s)
            self._accepted()
            self._ended(now_s)
            self._perform()
            if self._facts or self.core.wake_s <= now_s:
                self._decide()
            else:
                time.sleep(0.0005)
        wall_s = self._now_s()
        self.usage.change(0.0, wall_s)
        return wall_s

    def _now_s(self) -> float:
        return time.perf_counter() - self._started

    def _submit(self, now_s: float) -> None:
        """Write what is due; it counts once that is on disk."""
        if len(self._submitting) > 2:
            return
        due: list[Workload] = []
        while self._coming and self._coming[0].due_s <= now_s and len(due) < MOST_AT_ONCE:
            due.append(self._coming.popleft())
        if due:
            batch = Batch(STREAM, [JobSubmitted(one.spec, one.spec.user) for one in due])
            self._submitting.append((self.committer.submit([batch]), due))

    def _accepted(self) -> None:
        while self._submitting and self._submitting[0][0].done():
            written, due = self._submitting.popleft()
            written.result()
            for one in due:
                self._facts.append(JobSubmitted(one.spec, one.spec.user))
                self._estimate(one)

    def _estimate(self, one: Workload) -> None:
        if (estimate := self.history.estimate(one.cls)) is not None:
            self._facts.append(JobEstimated(one.spec.job_id, estimate))

    def _ended(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            _, job_id, attempt = heapq.heappop(self._ends)
            found = self._since.get(job_id)
            if found is None or found[0] != attempt:
                continue
            del self._since[job_id]
            one = self.workloads[job_id]
            self._facts.append(JobEnded(job_id, attempt, "ok"))
            self.usage.change(-one.spec.shapes[0].cpus, now_s)
            self.num_left -= 1
            if self.history.add(one.cls, now_s - found[1]):
                for record in list(self.core.jobs.values()):
                    if record.spec.family == one.cls and not record.state.is_final:
                        self._estimate(self.workloads[record.spec.job_id])

    def _decide(self) -> None:
        now_s, facts, self._facts = self._now_s(), self._facts, []
        decision = self.core.handle(*facts, now_s=now_s)
        kept: list[JobFact] = [fact for fact in facts if type(fact).__name__ in JOURNALLED and not isinstance(fact, JobSubmitted)]
        kept += decision.facts
        for fact in decision.facts:
            if isinstance(fact, JobDispatched):
                self.usage.change(fact.grant.option.units, now_s)
        if kept:
            self._deciding.append((self.committer.submit([Batch(STREAM, kept)]), decision.commands, self._now_s()))
        self.busy_s += self._now_s() - now_s

    def _perform(self) -> None:
        """What is decided happens once it is on disk."""
        while self._deciding and self._deciding[0][0].done():
            written, commands, since_s = self._deciding.popleft()
            written.result()
            now_s = self._now_s()
            self.commit_s.append(now_s - since_s)
            for command in commands:
                one = self.workloads[command.job_id] if isinstance(command, Launch | Preempt) else None
                if one is None:
                    continue
                if isinstance(command, Launch):
                    self.admitted_s.setdefault(command.job_id, now_s - one.due_s)
                    self._since[command.job_id] = (command.attempt, now_s)
                    heapq.heappush(self._ends, (now_s + one.run_s, command.job_id, command.attempt))
                    self._facts.append(JobStarted(command.job_id, command.attempt))
                elif isinstance(command, Preempt) and self._since.pop(command.job_id, None) is not None:
                    self.num_evicted += 1
                    self.usage.change(-one.spec.shapes[0].cpus, now_s)
                    self._facts.append(JobVacated(command.job_id, command.attempt))


def measure(name: str, url: str) -> dict[str, float]:
    test = read_test(name)
    journal = Journal(url)
    committer = Committer(journal)
    driver = Driver(test, committer)
    cpu_s, load = time.process_time(), os.getloadavg()[0]
    wall_s = driver.run()
    cpu_s = time.process_time() - cpu_s
    committer.close()
    num_facts = journal.last_seq(STREAM)
    journal.close()
    figures = {"wall_s": wall_s, "usage_frac": driver.usage.integral / test.nominal / wall_s}
    for cls in sorted({one.cls for one in test.workloads}):
        waits = [driver.admitted_s[one.spec.job_id] for one in test.workloads if one.cls == cls]
        figures[f"{cls}_s"] = statistics.mean(waits)
    more = {"bound_s": test.bound_s, "workloads": len(test.workloads), "evictions": driver.num_evicted, "facts_on_disk": num_facts}
    return {
        **figures,
        **more,
        "commit_ms_p50": 1e3 * statistics.median(driver.commit_s),
        "core_s": driver.busy_s,
        "cpu_s": cpu_s,
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--large", action="store_true", help="50,000 workloads in 1,000 queues")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    args = parser.parse_args()
    name = "large-scale" if args.large else "baseline"
    profile = cProfile.Profile() if args.profile else None
    with tempfile.TemporaryDirectory() as folder:
        if profile:
            profile.enable()
        figures = measure(name, f"sqlite:///{folder}/journal.db")
    if profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    if args.json:
        note = "Kueue's figures include a Kubernetes API server and etcd; this run includes none"
        print(json.dumps({**figures, "kueue": PEER[name], "note": note}))
        return
    rows = [[key, f"{value:.4g}", f"{PEER[name].get(key, '')}", GOALS[name].get(key, "")] for key, value in figures.items()]
    print(table(["figure", "measured", "Kueue*", "goal"], rows, right=(1, 2, 3)))
    print("* with a Kubernetes API server and etcd in the loop; here there is neither. SQLite, synchronous=FULL, group commit.")


if __name__ == "__main__":
    main()
