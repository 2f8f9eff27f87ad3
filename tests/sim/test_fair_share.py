"""Shares under contention: what classes and queues really get, measured from the leases of a simulated fabric.

Tolerance: 5 % of each share, over windows of one usage half-life and more while all are backlogged.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from fabric.job import JobEstimate, Shape
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.core import Core
from fabric.scheduler.problem import Plan, Problem
from fabric.sim.engine import SimJob, Simulation
from tests.jobs import CATALOGUE, CPU, T4, machine, spec

HALF_LIFE_S = 2000.0
TOLERANCE = 0.05
NODES = tuple(machine(f"a{n}", cpus=64.0) for n in range(6))
MIXED = (*(machine(f"a{n}") for n in range(4)), *(machine(f"c{n}", CPU, cpus=64.0) for n in range(4)))
Owner = tuple[str, str]
Sizes = Sequence[tuple[Shape, ...]]
ONES: Sizes = [(Shape("a100", 1),)]
MANY: Sizes = [(Shape("a100", 1),), (Shape("a100", 1),), (Shape("a100", 2),), (Shape("a100", 4),), (Shape("a100", 1, num_bundles=3),)]


def jobs_of(
    owner: Owner, count: int, run_s: tuple[float, float], sizes: Sizes = ONES, *, seed: int = 0, every_s: float = 0.0, from_s: float = 0.0
) -> list[SimJob]:
    """Jobs of one class in one queue; `every_s` apart from `from_s` on."""
    luck, (queue, cls), made = random.Random(f"{owner}{seed}"), owner, []
    for number in range(count):
        shapes, length = luck.choice(sizes), luck.uniform(*run_s)
        at_s = from_s + every_s * number
        rates = {(shape, flavor): 1.0 / length for shape in range(len(shapes)) for flavor in CATALOGUE}
        one = spec(f"{queue}-{cls}-{number}", *shapes, queue=queue, priority=cls, submitted_s=at_s)
        made.append(SimJob(one, at_s, 1.0, rates, JobEstimate(1.0, rates)))
    return made


def shares(
    jobs: Iterable[SimJob],
    policy: Policy,
    *,
    nodes: Sequence[object] = NODES,
    planner: Callable[[Problem], Plan] | None = None,
    flavors: Iterable[str] = CATALOGUE,
    until_s: float = 3 * HALF_LIFE_S,
    from_s: float = 0.0,
) -> Mapping[Owner, float]:
    """(queue, class) -> its part of the price-weighted resource-seconds on these flavors within the window."""
    simulation = Simulation(Core(CATALOGUE, policy, is_planning=planner is not None), jobs, nodes, planner, restart_s=policy.restart_s)  # type: ignore[arg-type]
    simulation.run()
    used: dict[Owner, float] = defaultdict(float)
    for lease in simulation.leases:
        job = simulation.jobs[lease.job].spec
        seconds = min(lease.end_s, until_s) - max(lease.start_s, from_s)
        if lease.flavor in flavors and seconds > 0:
            used[job.queue, job.priority] += seconds * lease.units * (CATALOGUE[lease.flavor].usd_per_h or 0.0)
    waited = {(job.spec.queue, job.spec.priority): 0.0 for job in simulation.jobs.values()}
    for lease in simulation.leases:
        job = simulation.jobs[lease.job].spec
        waited[job.queue, job.priority] = max(waited[job.queue, job.priority], lease.start_s)
    assert min(waited.values()) > until_s, f"not backlogged all the time: {waited}"
    return {owner: usd / sum(used.values()) for owner, usd in used.items()}


def policy_of(*classes: PriorityClass, queues: tuple[QueuePolicy, ...] = (QueuePolicy("default"),), **kwargs: object) -> Policy:
    return Policy(classes=classes, queues=queues, usage_half_life_s=HALF_LIFE_S, restart_s=0.0, **kwargs)  # type: ignore[arg-type]


THREE_TO_ONE = (PriorityClass("heavy", 3.0), PriorityClass("light", 1.0))
HEAVY, LIGHT = ("default", "heavy"), ("default", "light")


@pytest.mark.parametrize(
    ("heavy", "light"),
    [
        (((100.0, 100.0), ONES), ((100.0, 100.0), ONES)),
        (((20.0, 60.0), ONES), ((100.0, 500.0), ONES)),
        (((100.0, 500.0), MANY), ((20.0, 60.0), ONES)),
        (((50.0, 200.0), MANY), ((50.0, 200.0), MANY)),
    ],
    ids=["alike", "short and long", "gangs and singles", "gangs"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_of_equal_value_share_by_weight(
    heavy: tuple[tuple[float, float], Sizes], light: tuple[tuple[float, float], Sizes], seed: int
) -> None:
    def enough(run_s: tuple[float, float], sizes: Sizes, share: float) -> int:
        units = sum(shapes[0].accelerators * shapes[0].num_bundles for shapes in sizes) / len(sizes)
        return int(1.6 * share * 24 * 3 * HALF_LIFE_S / (sum(run_s) / 2 * units)) + 20

    jobs = jobs_of(HEAVY, enough(*heavy, 0.75), *heavy, seed=seed) + jobs_of(LIGHT, enough(*light, 0.25), *light, seed=seed)
    found = shares(jobs, policy_of(*THREE_TO_ONE))
    assert found[HEAVY] == pytest.approx(0.75, rel=TOLERANCE)


def test_what_a_class_used_while_nobody_else_waited_does_not_count_against_it() -> None:
    """`heavy` has had all of the fabric for two half-lives; from then on it gets its three quarters, not nothing."""
    jobs = jobs_of(HEAVY, 1500, (100.0, 140.0)) + jobs_of(LIGHT, 500, (100.0, 140.0), from_s=2 * HALF_LIFE_S)
    found = shares(jobs, policy_of(*THREE_TO_ONE), from_s=2 * HALF_LIFE_S, until_s=3 * HALF_LIFE_S)
    assert found[HEAVY] == pytest.approx(0.75, rel=TOLERANCE)


def test_arrivals_share_too() -> None:
    """Both classes get new jobs all the time, more than there is room for."""
    jobs = jobs_of(HEAVY, 1000, (80.0, 120.0), every_s=5.0) + jobs_of(LIGHT, 400, (80.0, 120.0), every_s=12.0)
    found = shares(jobs, policy_of(*THREE_TO_ONE), from_s=500.0, until_s=2 * HALF_LIFE_S)
    assert found[HEAVY] == pytest.approx(0.75, rel=TOLERANCE)


def test_queues_share_first_and_classes_within_them() -> None:
    queues = (QueuePolicy("lab", weight=2.0), QueuePolicy("team"))
    owners = [(queue, cls) for queue in ("lab", "team") for cls in ("heavy", "light")]
    jobs = [job for owner in owners for job in jobs_of(owner, 1100 if owner == ("lab", "heavy") else 700, (60.0, 140.0))]
    found = shares(jobs, policy_of(*THREE_TO_ONE, queues=queues))
    expected = {("lab", "heavy"): 6 / 12, ("lab", "light"): 2 / 12, ("team", "heavy"): 3 / 12, ("team", "light"): 1 / 12}
    assert found == {owner: pytest.approx(share, rel=TOLERANCE) for owner, share in expected.items()}


def test_what_only_one_class_can_use_does_not_count() -> None:
    """`light` also runs on CPUs, as much as it likes: of the GPUs, that both can use, it gets its quarter all the same."""
    either: Sizes = [(Shape("a100", 1), Shape("cpu", cpus=4.0))]
    jobs = jobs_of(HEAVY, 900, (80.0, 120.0)) + jobs_of(LIGHT, 6500, (80.0, 120.0), either)
    found = shares(jobs, policy_of(*THREE_TO_ONE), nodes=MIXED, flavors=["a100-80g"])
    assert found[HEAVY] == pytest.approx(0.75, rel=TOLERANCE)


def test_three_classes_of_which_two_never_meet() -> None:
    """One on GPUs, one on CPUs, one on both, all of weight 1: on each flavor the two that can use it get a half."""
    classes = tuple(PriorityClass(name) for name in ("gpu", "cpu", "both"))
    either: Sizes = [(Shape("a100", 1), Shape("cpu", cpus=4.0))]
    jobs = jobs_of(("default", "gpu"), 600, (80.0, 120.0)) + jobs_of(("default", "cpu"), 2400, (80.0, 120.0), [(Shape("cpu", cpus=4.0),)])
    jobs += jobs_of(("default", "both"), 2600, (80.0, 120.0), either)
    found = shares(jobs, policy_of(*classes), nodes=MIXED, flavors=["a100-80g"], until_s=HALF_LIFE_S)
    assert found[("default", "gpu")] == pytest.approx(0.5, rel=0.1)


def shortest_first(problem: Problem) -> Plan:
    """A planner that leaves what runs where it is, and wants the shortest jobs next, whosever they are."""
    waiting = sorted((job for job in problem.jobs if job.held is None), key=lambda job: job.work / job.options[0].rate)
    held = {job.job_id: job.held for job in problem.jobs if job.held is not None}
    free = dict(problem.capacity)
    for way in held.values():
        free[way.flavor] -= way.units
    for job in waiting:
        if (found := next((way for way in job.options if free[way.flavor] >= way.units), None)) is not None:
            held[job.job_id] = found
            free[found.flavor] -= found.units
    return Plan(problem.now_s, held, [(job.job_id, job.options) for job in waiting if job.job_id not in held])


@pytest.mark.parametrize("planner", [None, shortest_first], ids=["in order", "planned"])
def test_the_ready_made_policy_gives_three_to_one(planner: Callable[[Problem], Plan] | None) -> None:
    """Weights 3 and 1, preferred nodes, best effort: both classes want GPUs."""
    classes = (PriorityClass("gpu-intensive", 3.0, selectors=("nvidia-tesla",)), PriorityClass("cpu-bound"))
    nodes = (*(machine(f"a{n}") for n in range(3)), *(machine(f"t{n}", T4) for n in range(3)), machine("c1", CPU))
    anywhere: Sizes = [(Shape("gpu", 1),), (Shape("gpu", 1),), (Shape("gpu", 2),)]
    first, second = ("default", "gpu-intensive"), ("default", "cpu-bound")
    until_s = 1.5 * HALF_LIFE_S
    jobs = jobs_of(first, 700, (50.0, 150.0), anywhere) + jobs_of(second, 350, (50.0, 150.0), anywhere)
    found = shares(jobs, policy_of(*classes), nodes=nodes, planner=planner, until_s=until_s)
    assert found[first] == pytest.approx(0.75, rel=TOLERANCE)
