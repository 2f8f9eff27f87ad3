"""What one decision takes: 10,000 queued jobs on 1,000 mixed nodes of eight accelerators, all of them busy.

Then jobs end and others come, one event at a time; each is one call of the scheduler's `handle`, timed by itself (`event_cpu_*`: the
thread's own time, which a busy machine does not stretch). The optimiser's
question is answered as it comes (in the product by a process of its own); `lp_s` is the longest answer, `plan_ms_max` the longest call
that takes one in. The second half of the figures is the same under a policy with queues, quotas and two classes of equal value.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import time
from collections.abc import Iterator

from fabric.job import JobEstimate, JobId, JobSpec, Shape
from fabric.job_events import (
    JobEnded,
    JobEstimated,
    JobFact,
    JobStarted,
    JobSubmitted,
    JobVacated,
    Launch,
    NodesSeen,
    PlanSolved,
    Preempt,
    Solve,
)
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.core import Core, Decision
from fabric.scheduler.optimise import solve
from fabric.show import table
from fabric.sim.figures import quantile
from fabric.states import JobState
from fabric.types import Node
from pools.flavors import load_catalogue

NODES = {"v100": 300, "p100": 300, "k80": 400}
GPUS_PER_NODE = 8
SPEEDS = {"v100": 1.0, "p100": 0.55, "k80": 0.2}
NUM_FAMILIES = 26
QUEUES = ("vision", "language", "speech", "tabular")
TWO_CLASSES = Policy(
    name="queues",
    classes=(PriorityClass("gpu-intensive", weight=3.0), PriorityClass("batch")),
    queues=tuple(QueuePolicy(name, cohort="all", weight=1.0 + n, nominal={"gpu": 2000.0}) for n, name in enumerate(QUEUES)),
)
GOALS = {"event_ms_p99": "<= 50", "lp_s": "<= 1"}


class Load:
    """Draws jobs; single use per run. Sizes as in Gavel: 1/2/4/8 accelerators for 70/10/15/5 %."""

    def __init__(self, seed: int, queues: tuple[str, ...]) -> None:
        self.luck, self.queues, self.num = random.Random(seed), queues, 0

    def job(self, now_s: float) -> list[JobFact]:
        luck, self.num = self.luck, self.num + 1
        gpus = luck.choices((1, 2, 4, 8), (70, 10, 15, 5))[0]
        family = luck.randrange(NUM_FAMILIES)
        twist = random.Random(family)
        rates = {(0, flavor): speed * twist.uniform(0.5, 1.5) for flavor, speed in SPEEDS.items()}
        work = 60 * 10 ** (luck.uniform(1.5, 3) if luck.random() < 0.8 else luck.uniform(3, 4))
        shape = Shape("gpu", 1, cpus=1.0, num_bundles=gpus)
        name, cls = f"{self.num:08d}", luck.choice(("gpu-intensive", "batch"))
        user = f"user-{luck.randrange(50)}"
        spec = JobSpec(
            JobId(name), name, user, luck.choice(self.queues), cls, "program", (shape,), f"family-{family}", now_s, can_resume=True
        )
        return [JobSubmitted(spec, user), JobEstimated(spec.job_id, JobEstimate(work, rates))]


class Driver:
    """Calls the core and times it; answers what it commands."""

    def __init__(self, core: Core) -> None:
        self.core, self.now_s = core, 0.0
        self.running: dict[JobId, int] = {}
        self.call_s: list[float] = []
        self.call_cpu_s: list[float] = []
        self.plan_s: list[float] = []
        self.lp_s: list[float] = []

    def tell(self, *facts: JobFact) -> None:
        started, used = time.perf_counter(), time.thread_time()
        decision = self.core.handle(*facts, now_s=self.now_s)
        self.call_s.append(time.perf_counter() - started)
        self.call_cpu_s.append(time.thread_time() - used)
        self.answer(decision)

    def answer(self, decision: Decision) -> None:
        """Launched jobs start, preempted ones leave: one call each, as in the product."""
        answers = list(self._answers(decision))
        if answers:
            self.tell(*answers)

    def _answers(self, decision: Decision) -> Iterator[JobFact]:
        for command in decision.commands:
            if isinstance(command, Launch):
                self.running[command.job_id] = command.attempt
                yield JobStarted(command.job_id, command.attempt)
            elif isinstance(command, Preempt):
                del self.running[command.job_id]
                yield JobVacated(command.job_id, command.attempt, 0.0)
            elif isinstance(command, Solve):
                self.plan(command)

    def plan(self, command: Solve) -> None:
        started = time.perf_counter()
        plan = solve(command.problem)
        self.lp_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        decision = self.core.handle(PlanSolved(plan), now_s=self.now_s)
        self.plan_s.append(time.perf_counter() - started)
        self.answer(decision)


def nodes() -> tuple[Node, ...]:
    return tuple(
        Node(f"{flavor}-{n}", f"{flavor}-{n}", "hot", flavor, {"GPU": float(GPUS_PER_NODE), "CPU": 64.0})
        for flavor, count in NODES.items()
        for n in range(count)
    )


def num_pending(core: Core) -> int:
    return sum(record.state is JobState.PENDING for record in core.jobs.values())


def measure(policy: Policy, queues: tuple[str, ...], num_queued: int, num_events: int, seed: int, is_planning: bool) -> dict[str, float]:
    driver, load = Driver(Core(load_catalogue(), policy, is_planning=is_planning)), Load(seed, queues)
    driver.tell(NodesSeen(nodes()))
    while num_pending(driver.core) < num_queued:
        # Thousands at a time: filling is not what is measured.
        driver.now_s += 60.0
        driver.tell(*(fact for _ in range(2000) for fact in load.job(driver.now_s)))
    for times in (driver.call_s, driver.call_cpu_s, driver.plan_s, driver.lp_s):
        times.clear()
    for _ in range(num_events):
        driver.now_s += 5.0
        job_id = load.luck.choice(sorted(driver.running))
        driver.tell(JobEnded(job_id, driver.running.pop(job_id), "ok"))
        driver.tell(*load.job(driver.now_s))
    calls, cpu = sorted(driver.call_s), sorted(driver.call_cpu_s)
    return {
        "event_ms_p50": 1e3 * quantile(calls, 0.5),
        "event_ms_p99": 1e3 * quantile(calls, 0.99),
        "event_ms_max": 1e3 * calls[-1],
        "event_cpu_ms_p99": 1e3 * quantile(cpu, 0.99),
        "event_cpu_ms_max": 1e3 * cpu[-1],
        "plan_ms_max": 1e3 * max(driver.plan_s, default=0.0),
        "lp_s": max(driver.lp_s, default=0.0),
        "solves": len(driver.lp_s),
        "running": len(driver.running),
        "queued": num_pending(driver.core),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--events", type=int, default=500, help="jobs that end, and as many that come")
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--no-plan", action="store_true", help="without the optimiser: first in order, first served")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    args = parser.parse_args()
    profile = cProfile.Profile() if args.profile else None
    if profile:
        profile.enable()
    figures = measure(Policy(), ("default",), args.queued, args.events, 0, not args.no_plan)
    figures |= {
        f"{name}_queues": value for name, value in measure(TWO_CLASSES, QUEUES, args.queued, args.events, 0, not args.no_plan).items()
    }
    if profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    if args.json:
        print(json.dumps(figures))
        return
    print(
        table(
            ["figure", "measured", "goal"], [[name, f"{value:.4g}", GOALS.get(name, "")] for name, value in figures.items()], right=(1, 2)
        )
    )


if __name__ == "__main__":
    main()
