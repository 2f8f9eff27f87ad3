"""What each owner knows, as samples: pools, jobs and the scheduler, tasks, models."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from fabric.call_samples import MOST_REASONS, count_reasons, in_flight
from fabric.client import Call
from fabric.job import JobId, Shape
from fabric.job_events import JobEnded, JobFact, JobStarted, JobSubmitted, JobVacated, LeaseRefused
from fabric.metrics import declared as m
from fabric.metrics.metric import Metric, Sample
from fabric.metrics.tally import Tally
from fabric.plane.job_tally import JobTally
from fabric.plane.samples import budgets, held, plane_samples, quotas
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.types import Lease, NodeUsage, PoolSnapshot, Resources, Run
from pools.samples import pool_samples
from profiler.samples import count_run
from serve_apps.directory.observed import Observed, bucket_of
from serve_apps.directory.samples import ServingSamples, rollout_samples
from tests.directory_world import World
from tests.fleet import BIG, COLD, CPUS, FLAVORS, HOT, NPU, ONE_CPU, ONE_GPU, node, plan_of
from tests.jobs import Desk, machine, spec
from tests.local_plane import LocalPlane

LONG_S = 10_000.0


def table(samples: Iterable[Sample], metric: Metric) -> dict[tuple[str, ...], float]:
    """Labels -> value, of one metric; each series once."""
    found = [sample for sample in samples if sample.metric is metric]
    assert len({sample.labels for sample in found}) == len(found), metric.name
    assert all(len(sample.labels) == len(metric.labels) for sample in found)
    return {sample.labels: sample.value for sample in found}


def seen(samples: Iterable[Sample], metric: Metric) -> dict[tuple[str, ...], int]:
    """Labels -> how many values, of one histogram."""
    counts: dict[tuple[str, ...], int] = {}
    for sample in samples:
        if sample.metric is metric:
            counts[sample.labels] = counts.get(sample.labels, 0) + sample.times
    return counts


# -- pools -----------------------------------------------------------------------------------------------------------------


def test_a_pool_tells_nodes_capacity_use_and_idle_money() -> None:
    busy = node("a", HOT, GPU=4.0, used={"GPU": 3.0, "CPU": 2.0})
    usage = NodeUsage(0.5, 1, 2, gpu_frac=0.25)
    nodes = (dataclasses.replace(busy, usage=usage), node("b", HOT, GPU=4.0, health="cordoned"), node("c", HOT, GPU=4.0, health="lost"))
    pool = PoolSnapshot("hot", 1, nodes, (Lease("l", "m", "b", {"GPU": 1.0, "CPU": 0.5}),))
    told, place = list(pool_samples(pool, FLAVORS)), ("hot", "big")
    assert table(told, m.POOL_NODES) == {(*place, h): float(h != "draining") for h in ("ready", "cordoned", "draining", "lost")}
    assert table(told, m.POOL_ACCELERATORS)[place] == 8 and table(told, m.POOL_CPUS)[place] == 8
    assert table(told, m.POOL_ACCELERATORS_USED)[place] == 3 and table(told, m.POOL_CPUS_USED)[place] == 2
    assert table(told, m.POOL_ACCELERATORS_BOOKED)[place] == 1 and table(told, m.POOL_CPUS_BOOKED)[place] == 0.5
    assert table(told, m.POOL_USD)[place] == 8 * 3.6 and abs(table(told, m.POOL_IDLE_USD)[place] - 5 * 3.6) < 1e-9
    assert table(told, m.POOL_CPU_BUSY)[place] == 0.5 and table(told, m.POOL_GPU_BUSY)[place] == 0.25


def test_two_of_ray_s_units_may_be_one_accelerator_and_a_cpu_flavor_has_none() -> None:
    chips = list(pool_samples(PoolSnapshot("warm", 1, (node("x", NPU, QAIC=4.0),)), FLAVORS))
    assert table(chips, m.POOL_ACCELERATORS) == {("warm", "chip"): 2.0}
    assert table(chips, m.POOL_USD) == {("warm", "chip"): 3.6}
    cpus = list(pool_samples(PoolSnapshot("cold", 1, (CPUS,)), FLAVORS))
    assert table(cpus, m.POOL_ACCELERATORS) == {} and table(cpus, m.POOL_CPUS) == {("cold", "cpu"): 4.0}


def test_what_is_not_known_has_no_series() -> None:
    free = {"big": dataclasses.replace(HOT, usd_per_h=None)}
    told = list(pool_samples(PoolSnapshot("hot", 1, (BIG, node("y", COLD))), free))
    assert table(told, m.POOL_USD) == {} and table(told, m.POOL_CPU_BUSY) == {}
    assert table(told, m.POOL_NODES)["hot", "cpu", "ready"] == 1 and ("hot", "cpu") not in table(told, m.POOL_CPUS)


# -- jobs ------------------------------------------------------------------------------------------------------------------


class Watched(Desk):
    """A desk whose facts are counted as the scheduler's are."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(machine("a1"), policy=policy)
        self.tally = JobTally(self.core)

    def happen(self, *facts: JobFact, at_s: float) -> None:
        decision = self.tell(*facts, at_s=at_s)
        self.tally.note([*facts, *decision.facts], at_s)

    def arrive(self, name: str, gpus: int, *, at_s: float, **kwargs: str) -> None:
        self.happen(JobSubmitted(spec(name, Shape("a100", gpus), submitted_s=at_s, **kwargs), "ann"), at_s=at_s)  # type: ignore[arg-type]


CLASSES = (PriorityClass("high", value=10), PriorityClass("low"))
POLICY = Policy(classes=CLASSES, queues=(QueuePolicy("default"), QueuePolicy("quiet")))


def test_jobs_are_counted_by_state_as_their_facts_come_by() -> None:
    desk = Watched(POLICY)
    desk.arrive("first", 4, at_s=0.0, priority="low")
    desk.happen(JobStarted(JobId("first"), 1), at_s=1.0)
    desk.arrive("second", 4, at_s=10.0, priority="low", user="bob")
    told = list(desk.tally.samples(40.0))
    jobs = table(told, m.QUEUE_JOBS)
    assert {labels: count for labels, count in jobs.items() if count} == {("default", "RUNNING"): 1, ("default", "PENDING"): 1}
    assert jobs["quiet", "PENDING"] == 0, "a queue without jobs has its row"
    assert table(told, m.USER_JOBS)["bob", "PENDING"] == 1 and table(told, m.USER_JOBS)["ann", "RUNNING"] == 1
    assert table(told, m.QUEUE_OLDEST_WAIT) == {("default",): 30.0, ("quiet",): 0.0}
    assert table(told, m.JOBS_SUBMITTED) == {("default", "ann"): 1, ("default", "bob"): 1}
    assert seen(told, m.JOB_WAIT) == {("default",): 1}

    desk.happen(JobEnded(JobId("first"), 1, "ok"), at_s=50.0)
    told = list(desk.tally.samples(50.0))
    assert table(told, m.JOBS_ENDED) == {("default", "ann", "SUCCEEDED"): 1}
    assert {labels: count for labels, count in table(told, m.QUEUE_JOBS).items() if count} == {("default", "ADMITTED"): 1}
    waits = [sample for sample in told if sample.metric is m.JOB_WAIT]
    assert [(sample.value, sample.times) for sample in waits] == [(45.0, 1)], "40 s lie between 30 and 60"
    assert table(told, m.QUEUE_OLDEST_WAIT)["default",] == 0.0


def test_preemptions_retries_and_refusals_are_counted_with_their_cause() -> None:
    desk = Watched(POLICY)
    desk.happen(JobSubmitted(spec("low", Shape("a100", 4), priority="low", max_retries=1), "ann"), at_s=0.0)
    desk.happen(JobStarted(JobId("low"), 1), at_s=1.0)
    desk.arrive("high", 4, at_s=2.0, priority="high")
    told = list(desk.tally.samples(2.0))
    assert table(told, m.JOB_PREEMPTIONS) == {("default", "Preempted"): 1}
    assert table(told, m.QUEUE_JOBS)["default", "PREEMPTING"] == 1
    desk.happen(JobVacated(JobId("low"), 1), at_s=3.0)
    desk.happen(LeaseRefused(JobId("high"), 1, "no room"), at_s=4.0)
    desk.happen(at_s=60.0)
    told = list(desk.tally.samples(60.0))
    assert table(told, m.JOB_REFUSALS) == {("default",): 1}
    assert sum(table(told, m.QUEUE_JOBS).values()) == 2, "no job is counted twice or lost"


def test_an_attempt_that_failed_and_goes_on_is_a_retry_and_one_that_ends_the_job_is_none() -> None:
    desk = Watched(POLICY)
    desk.happen(JobSubmitted(spec("once", max_retries=1), "ann"), at_s=0.0)
    desk.happen(JobStarted(JobId("once"), 1), at_s=1.0)
    desk.happen(JobEnded(JobId("once"), 1, "error"), at_s=2.0)
    assert table(desk.tally.samples(2.0), m.JOB_RETRIES) == {("default", "error"): 1}
    desk.happen(at_s=500.0)
    desk.happen(JobStarted(JobId("once"), 2), at_s=501.0)
    desk.happen(JobEnded(JobId("once"), 2, "error"), at_s=502.0)
    told = list(desk.tally.samples(502.0))
    assert table(told, m.JOB_RETRIES) == {("default", "error"): 1} and table(told, m.JOBS_ENDED) == {("default", "ann", "FAILED"): 1}
    assert seen(told, m.JOB_WAIT) == {}, "only the first admission ends a wait, and that was told"


def test_a_restored_core_is_counted_as_it_stands_and_nothing_of_it_as_new() -> None:
    desk = Watched(POLICY)
    desk.arrive("first", 4, at_s=0.0)
    desk.arrive("second", 4, at_s=5.0)
    again = JobTally(desk.core)
    told = list(again.samples(25.0))
    assert table(told, m.QUEUE_JOBS) == table(desk.tally.samples(25.0), m.QUEUE_JOBS)
    assert table(told, m.QUEUE_OLDEST_WAIT)["default",] == 20.0
    assert table(told, m.JOBS_SUBMITTED) == {} and seen(told, m.JOB_WAIT) == {}


def test_what_is_held_is_told_by_queue_with_its_price_and_quotas_with_what_is_borrowed() -> None:
    lend = QueuePolicy("lender", cohort="c", nominal={"a100-80g": 3.0}, budget_usd=50.0)
    borrow = QueuePolicy("borrower", cohort="c", nominal={"a100-80g": 1.0})
    desk = Desk(machine("a1"), policy=Policy(classes=CLASSES, queues=(lend, borrow)))
    desk.submit(spec("big", Shape("a100", 3), queue="borrower", user="bob"), run_s=LONG_S)
    told = [*held(desk.core), *quotas(desk.core), *budgets(desk.core, 0.0)]
    assert table(told, m.QUEUE_UNITS) == {("borrower", "hot", "a100-80g"): 3.0}
    assert table(told, m.QUEUE_USD) == {("lender",): 0.0, ("borrower",): 3 * 3.6}
    assert table(told, m.USER_USD) == {("bob",): 3 * 3.6}
    assert table(told, m.QUOTA_NOMINAL) == {("lender", "a100-80g"): 3.0, ("borrower", "a100-80g"): 1.0}
    assert table(told, m.QUOTA_HELD)["borrower", "a100-80g"] == 3.0
    assert table(told, m.QUOTA_BORROWED) == {("lender", "a100-80g"): 0.0, ("borrower", "a100-80g"): 2.0}
    assert table(told, m.QUEUE_BUDGET_LEFT) == {("lender",): 50.0}


def test_the_scheduler_tells_its_own_pace(tmp_path: Path) -> None:
    local = LocalPlane(tmp_path, runs=False)
    try:
        told = plane_samples(local.plane)
    finally:
        local.close()
    assert seen(told, m.DECISION)[()] >= 2 and seen(told, m.CYCLE)[()] >= 2
    assert seen(told, m.COMMIT)[()] >= 1, "the policy was written"
    assert table(told, m.FACTS)[()] >= 2
    assert table(told, m.INBOX) == {(): 0} and table(told, m.JOURNAL_LAG) == {(): 0.0} and table(told, m.EPOCH) == {(): 1}


# -- tasks -----------------------------------------------------------------------------------------------------------------


def run(flavor: str, wall_s: float = 3600.0, outcome: str = "ok") -> Run:
    return Run("id", "t@1", 0, "default", flavor, "n", wall_s, 0.0, 0, outcome, "ann", "research")  # type: ignore[arg-type]


def test_runs_are_counted_timed_and_priced() -> None:
    tally = Tally()
    count_run(tally, run("chip"), NPU, Resources(custom=(("QAIC", 2.0),)))
    count_run(tally, run("chip", outcome="oom"), NPU, Resources(num_cpus=1))
    count_run(tally, run("gone"), None, None)
    told = tally.samples()
    assert table(told, m.TASK_CALLS) == {("warm", "chip", "ok"): 1, ("warm", "chip", "oom"): 1, ("", "gone", "ok"): 1}
    assert seen(told, m.TASK_RUN) == {("warm", "chip"): 2, ("", "gone"): 1}
    assert table(told, m.TASK_USD) == {("warm", "chip", "research"): 1.8}, "two units of Ray's are one card; CPUs there are free"


def calls(num: int) -> list[Call]:
    plan = plan_of(BIG, CPUS, variants=(ONE_CPU, ONE_GPU))
    return [Call(None, "t", plan.candidates[index % len(plan.candidates)], plan, plan.load(), 0.0) for index in range(num)]


def test_a_client_tells_its_calls_and_that_there_are_none_any_more() -> None:
    told = in_flight(calls(4), FLAVORS, {"small"})
    assert sum(table(told, m.TASK_IN_FLIGHT).values()) == 4 and table(told, m.TASK_IN_FLIGHT)["warm", "small"] == 0
    assert in_flight([], FLAVORS) == []


def test_reasons_are_asked_of_some_calls_evenly() -> None:
    tally = Tally()
    count_reasons(tally, calls(3), FLAVORS)
    assert sum(table(tally.samples(), m.TASK_REASONS).values()) == 3
    count_reasons(tally, calls(10 * MOST_REASONS), FLAVORS)
    told = table(tally.samples(), m.TASK_REASONS)
    assert sum(told.values()) == 3 + MOST_REASONS
    assert all(reason for _, _, reason in told)


# -- models ----------------------------------------------------------------------------------------------------------------


def test_models_tell_requests_errors_latencies_and_batches_since_the_last_look() -> None:
    world = World()
    samples = ServingSamples(world.core)
    one = ("m", "1")
    world.seen["1"] = Observed({bucket_of(15.0): 90, bucket_of(400.0): 9}, num_errors=1)
    world.beat(world.core.deployment(*one))
    told = samples.samples()
    assert table(told, m.MODEL_REQUESTS) == {one: 100} and table(told, m.MODEL_ERRORS) == {one: 1}
    assert [(s.value, s.times) for s in told if s.metric is m.MODEL_LATENCY] == [(0.015, 90), (0.35, 9)]
    assert table(told, m.MODEL_REPLICAS) == {(*one, "", ""): 2} and table(told, m.MODEL_REPLICAS_WANTED) == {one: 2}
    assert table(told, m.MODEL_TRAFFIC) == {one: 1.0}

    world.serves("1", num=100)
    told = samples.samples()
    assert table(told, m.MODEL_REQUESTS) == {one: 200} and seen(told, m.MODEL_LATENCY) == {one: 100}
    assert seen(samples.samples(), m.MODEL_LATENCY) == {}


def test_batches_add_up_over_replicas_that_come_and_go() -> None:
    world = World(num_replicas=1)
    samples, one = ServingSamples(world.core), ("m", "1")

    def report(replica: str, executions: float) -> None:
        known = world.core.reports(*one)[0]
        stats = {"executions": executions, "rows": 4 * executions, "cpu_utilization": 50.0}
        world.core.beat(dataclasses.replace(known, id=replica, stats=stats), world.now_s)  # type: ignore[arg-type]

    report("a", 10.0)
    assert table(samples.samples(), m.MODEL_EXECUTIONS) == {one: 10}
    report("a", 15.0)
    report("b", 2.0)
    told = samples.samples()
    assert table(told, m.MODEL_EXECUTIONS) == {one: 17} and table(told, m.MODEL_ROWS) == {one: 68}
    assert table(told, m.MODEL_CPU) == {one: 0.5}
    world.core.leave("a")  # type: ignore[arg-type]
    assert table(samples.samples(), m.MODEL_EXECUTIONS) == {one: 17}


def test_the_autoscaler_s_wish_is_told_and_its_decisions_counted() -> None:
    world = World()
    samples = ServingSamples(world.core)
    samples.scaled("m", "1", 5, "AboveTarget")
    samples.scaled("m", "1", 4, "BelowTarget")
    told = samples.samples()
    assert table(told, m.MODEL_REPLICAS_WANTED) == {("m", "1"): 4}
    assert table(told, m.MODEL_SCALINGS) == {("m", "1", "AboveTarget"): 1, ("m", "1", "BelowTarget"): 1}


def test_a_rollout_tells_its_state_its_share_and_what_each_guard_says() -> None:
    async def rolled() -> World:
        world = World()
        await world.started()
        await world.settled()
        await world.after(3.0)
        return world

    world = asyncio.run(rolled())
    ((name, rollout),) = world.rollouts.of_models()
    told = list(rollout_samples(name, rollout))
    states = table(told, m.ROLLOUT_STATE)
    assert [state for (_, state), value in states.items() if value] == ["stepping"] and sum(states.values()) == 1
    assert table(told, m.ROLLOUT_STEP) == {("m",): 0.1}
    guards = table(told, m.ROLLOUT_GUARD)
    assert {guard for _, guard, _ in guards} == {rollout.spec.guards[0].text} and sum(guards.values()) == 1
    told = ServingSamples(world.core).samples(world.rollouts.of_models())
    assert table(told, m.MODEL_TRAFFIC) == {("m", "1"): 0.9, ("m", "2"): 0.1} and table(told, m.ROLLOUT_STEP) == {("m",): 0.1}
