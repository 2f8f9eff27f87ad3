"""The scheduler under arbitrary histories: nothing is lost, nothing runs twice, no quota and no node is overrun."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fabric.job import JobEstimate, JobId, Option, Shape
from fabric.job_events import (
    JOURNALLED,
    JobCancelRequested,
    JobEnded,
    JobEstimated,
    JobFact,
    JobProgressed,
    JobReprioritised,
    JobStarted,
    JobSubmitted,
    JobVacated,
    Kill,
    Launch,
    LeaseRefused,
    NodesSeen,
    PlanSolved,
    Preempt,
    Solve,
)
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.scheduler.backlog import Group, reason
from fabric.scheduler.core import Core
from fabric.scheduler.problem import Plan, Problem
from fabric.states import JobState
from tests.jobs import A100, CATALOGUE, CPU, T4, machine, spec

NODES = (machine("a1"), machine("a2"), machine("t1", T4, gpus=2), machine("c1", CPU))
QUEUES = (
    QueuePolicy("lab", "all", nominal={"gpu": 4.0}, borrowing_limit={"gpu": 2.0}, lending_limit={"gpu": 3.0}),
    QueuePolicy("team", "all", weight=2.0, nominal={"gpu": 3.0}),
    QueuePolicy("free", max_units_per_user=6.0),
)
CLASSES = (PriorityClass("production", 3.0, 100), PriorityClass("batch", 1.0, 0), PriorityClass("tests", 2.0, 0, ("t4",)))
POLICIES = (
    Policy("one", CLASSES, QUEUES, restart_s=5.0),
    Policy("two", CLASSES, QUEUES, fallback="patient", patience_s=50.0, objective="jct", restart_s=0.0),
)
SHAPES = st.sampled_from(
    [
        (Shape("any", 1),),
        (Shape("a100", 2),),
        (Shape("a100", 4),),
        (Shape("gpu", 1, num_bundles=3),),
        (Shape("a100", 2, num_bundles=2, spread=True),),
        (Shape("gpu", 1, num_bundles=1, max_bundles=4),),
        (Shape("a100", 4), Shape("t4", 2)),
        (Shape("", cpus=4.0),),
        (Shape("", cpus=1.0, memory_bytes=int(30e9)),),
        (Shape("a100", 64),),
    ]
)


def _flat(held: Mapping[str, Mapping[int, int]]) -> dict[tuple[str, int], int]:
    return {(queue, value): num for queue, values in held.items() for value, num in values.items()}


def greedy(problem: Problem, moves: bool) -> Plan:
    """A plan that changes its mind: feasible, otherwise arbitrary."""
    free, run = dict(problem.capacity), {}
    jobs = sorted(problem.jobs, key=lambda job: (job.held is None) if not moves else job.job_id[::-1])
    for job in jobs:
        ways: tuple[Option, ...] = job.options if moves or job.held is None else (job.held, *job.options)
        for way in ways:
            if free.get(way.flavor, 0.0) >= way.units:
                free[way.flavor] -= way.units
                run[job.job_id] = way
                break
    order = [(job.job_id, job.options) for job in jobs if job.job_id not in run and job.held is None]
    return Plan(problem.now_s, run, order)


class SchedulerMachine(RuleBasedStateMachine):
    """Plays Ray, the runners, the users and the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(CATALOGUE, POLICIES[0])
        self.now_s = 0.0
        self.journal: list[tuple[float, JobFact]] = []
        self.alive: dict[JobId, tuple[int, str, Any]] = {}
        self.problems: list[Problem] = []
        self.done: set[JobId] = set()
        self.num = 0
        self.nodes = NODES

    def tell(self, *facts: JobFact) -> None:
        self.journal += [(self.now_s, fact) for fact in facts if type(fact).__name__ in JOURNALLED]
        decision = self.core.handle(*facts, now_s=self.now_s)
        self.journal += [(self.now_s, fact) for fact in decision.facts if type(fact).__name__ in JOURNALLED]
        for command in decision.commands:
            match command:
                case Launch():
                    assert command.job_id not in self.alive, "two attempts alive at once"
                    assert command.job_id not in self.done, "a finished job runs again"
                    self.alive[command.job_id] = (command.attempt, "launched", command.grant)
                case Preempt():
                    self.alive[command.job_id] = (command.attempt, "leaving", self.alive[command.job_id][2])
                case Kill():
                    if command.job_id in self.alive:
                        self.alive[command.job_id] = (command.attempt, command.outcome, self.alive[command.job_id][2])
                case Solve():
                    self.problems.append(command.problem)

    def end(self, job_id: JobId, outcome: Any) -> None:
        attempt, _, _ = self.alive.pop(job_id)
        if outcome == "ok":
            self.done.add(job_id)
        self.tell(JobEnded(job_id, attempt, outcome))

    @initialize()
    def begin(self) -> None:
        self.tell(NodesSeen(self.nodes))

    @rule(data=st.data(), count=st.integers(1, 5), queue=st.sampled_from(["lab", "team", "free"]))
    def submit(self, data: Any, count: int, queue: str) -> None:
        facts: list[JobFact] = []
        for _ in range(count):
            self.num += 1
            shapes = data.draw(SHAPES)
            known = sorted(self.core.jobs)
            after = tuple(data.draw(st.lists(st.sampled_from(known), max_size=2))) if known and not self.num % 7 else ()
            one = spec(
                f"j{self.num:04}", *shapes, queue=queue, submitted_s=self.now_s, after=after,
                priority=data.draw(st.sampled_from(["production", "batch", "tests", ""])),
                max_retries=data.draw(st.integers(0, 2)), can_resume=data.draw(st.booleans()),
                timeout_s=20.0 if self.num % 5 == 0 else None, budget_usd=0.05 if self.num % 6 == 0 else None,
            )  # fmt: skip
            facts.append(JobSubmitted(one, "ann"))
            run_s = data.draw(st.sampled_from([None, 1.0, 30.0, 300.0]))
            if run_s is not None:
                rates = {(number, flavor): 1.0 / run_s for number in range(len(shapes)) for flavor in CATALOGUE}
                facts.append(JobEstimated(one.job_id, JobEstimate(1.0, rates, 0.3)))
        self.tell(*facts)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), count=st.integers(1, 4))
    def answers(self, data: Any, count: int) -> None:
        """Runners say something."""
        for _ in range(min(count, len(self.alive))):
            if self.alive:
                self.answer(data)

    def answer(self, data: Any) -> None:
        """It started, was refused, left, or ended in some way."""
        job_id = data.draw(st.sampled_from(sorted(self.alive)))
        attempt, phase, grant = self.alive[job_id]
        if phase == "launched" and data.draw(st.booleans()):
            self.alive[job_id] = (attempt, "running", grant)
            self.tell(JobStarted(job_id, attempt, grant.nodes))
        elif phase == "launched":
            del self.alive[job_id]
            self.tell(LeaseRefused(job_id, attempt, "no placement group"))
        elif phase == "leaving":
            del self.alive[job_id]
            self.tell(JobVacated(job_id, attempt, 0.25))
        elif phase in ("cancelled", "timeout", "budget"):
            self.end(job_id, phase)
        else:
            self.end(job_id, data.draw(st.sampled_from(["ok", "ok", "ok", "error", "oom", "lost"])))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), done=st.floats(0.0, 1.0))
    def progress(self, data: Any, done: float) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.alive)))
        self.tell(JobProgressed(job_id, self.alive[job_id][0], done, 1.0, done / 2))

    @rule(data=st.data())
    def late_news_of_an_old_attempt(self, data: Any) -> None:
        tried = [job for job in self.core.jobs.values() if job.attempt > 1]
        if tried:
            job = data.draw(st.sampled_from(sorted(tried, key=lambda job: job.spec.job_id)))
            before = (job.state, job.attempt, job.grant)
            self.tell(JobEnded(job.spec.job_id, job.attempt - 1, "ok"))
            assert before == (job.state, job.attempt, job.grant) or job.spec.job_id in self.alive

    @precondition(lambda self: self.core.jobs)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        self.tell(JobCancelRequested(data.draw(st.sampled_from(sorted(self.core.jobs))), "ann"))

    @precondition(lambda self: self.core.jobs)
    @rule(data=st.data(), priority=st.sampled_from(["production", "batch", "tests", ""]))
    def reprioritise(self, data: Any, priority: str) -> None:
        job = self.core.jobs[data.draw(st.sampled_from(sorted(self.core.jobs)))]
        before, was_final = job.spec.priority, job.state.is_final
        self.tell(JobReprioritised(job.spec.job_id, priority, "ann"))
        assert job.spec.priority == (before if was_final else priority)

    @rule(seconds=st.sampled_from([0.1, 5.0, 60.0, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell()

    @precondition(lambda self: self.problems)
    @rule(moves=st.booleans())
    def solve(self, moves: bool) -> None:
        self.tell(PlanSolved(greedy(self.problems.pop(0), moves)))

    @rule(gone=st.sampled_from([None, "a1", "t1", "c1"]))
    def nodes_change(self, gone: str | None) -> None:
        self.nodes = tuple(node for node in NODES if node.node_id != gone)
        facts: list[JobFact] = [NodesSeen(self.nodes)]
        for job_id, (attempt, _, grant) in list(self.alive.items()):
            if gone in grant.nodes:
                del self.alive[job_id]
                facts.append(JobEnded(job_id, attempt, "lost"))
        self.tell(*facts)

    @rule(number=st.integers(0, 1))
    def another_policy(self, number: int) -> None:
        self.core.book.set_policy(POLICIES[number])

    @invariant()
    def no_node_holds_more_than_it_has(self) -> None:
        used: dict[str, Counter[str]] = defaultdict(Counter)
        for job in self.core.book.holding.values():
            assert job.grant is not None
            option = job.grant.option
            assert len(job.grant.nodes) == option.num_bundles, "a gang is granted whole"
            for node_id in job.grant.nodes:
                used[node_id].update({k: int(v) for k, v in self.core.book.demand(job, option).items()})
        for node in self.nodes:
            assert all(amount <= node.total.get(name, 0.0) + 1 for name, amount in used[node.node_id].items()), (node.node_id, used)

    @invariant()
    def no_quota_is_overrun(self) -> None:
        held: Counter[str] = Counter()
        for job in self.core.book.holding.values():
            if job.grant is not None and not CATALOGUE[job.grant.option.flavor].is_cpu:
                held[job.spec.queue] += int(job.grant.option.units)
        assert held["lab"] <= 6
        assert held["lab"] + held["team"] <= 7
        assert held["team"] <= 3 + 3, "lab lends at most 3"

    @invariant()
    def what_is_held_is_charged_to_its_user_and_its_class(self) -> None:
        standing, held = self.core.book.standing, list(self.core.book.holding.values())
        values = Counter((job.spec.queue, job.cls.value) for job in held if job.cls is not None)
        assert {key: num for key, num in _flat(standing.held_values).items() if num} == dict(values)
        units = Counter[str]()
        for job in held:
            units[job.spec.queue] += int(job.grant.option.units if job.grant is not None else 0)
        assert {queue: units for (_, queue), units in standing.user_units.items() if units} == {queue: n for queue, n in units.items() if n}

    @invariant()
    def what_waits_stands_with_its_class(self) -> None:
        for job in self.core.book.backlog.all_waiting():
            assert isinstance(job.group, Group) and job.group.leaf.cls == self.core.book.standing.class_of(job, self.now_s)

    @invariant()
    def what_the_core_holds_is_what_is_alive(self) -> None:
        assert set(self.core.book.holding) == set(self.alive)

    @invariant()
    def every_job_is_somewhere(self) -> None:
        timed = {job_id for _, job_id in self.core.book.timers}
        for job_id, job in self.core.jobs.items():
            if job.state is JobState.PENDING:
                assert job.group is not None or job.num_deps_left > 0 or job_id in timed, job

    @invariant()
    def replay_gives_back_the_same_state(self) -> None:
        again = Core(CATALOGUE, self.core.book.policy)
        for at_s, fact in self.journal:
            again.replay(fact, at_s)
        for job_id, job in self.core.jobs.items():
            twin = again.jobs[job_id]
            assert (twin.state, twin.attempt, twin.grant, twin.num_failures, twin.num_ooms, twin.cancel_requested, twin.spec) == (
                job.state, job.attempt, job.grant, job.num_failures, job.num_ooms, job.cancel_requested, job.spec
            )  # fmt: skip

    def teardown(self) -> None:
        """With all nodes back and every runner well, everything comes to an end."""
        self.nodes = NODES
        self.tell(NodesSeen(NODES))
        for _ in range(20 * (len(self.core.jobs) + 1)):
            self.now_s += 400.0
            while self.problems:
                self.tell(PlanSolved(greedy(self.problems.pop(), False)))
            for job_id, (attempt, phase, grant) in list(self.alive.items()):
                if phase == "launched":
                    self.tell(JobStarted(job_id, attempt, grant.nodes))
                    _, phase, _ = self.alive[job_id]
                if phase == "leaving":
                    del self.alive[job_id]
                    self.tell(JobVacated(job_id, attempt, 0.5))
                else:
                    self.end(job_id, phase if phase in ("cancelled", "timeout", "budget") else "ok")
            self.tell()
        for job in self.core.jobs.values():
            can_never = reason(job)[0] in ("BadConstraints", "BudgetExceeded", "QuotaExhausted")
            waits_for = any(not self.core.jobs[other].state.is_final for other in job.spec.after)
            assert job.state.is_final or can_never or waits_for, job


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
assert A100.name in CATALOGUE
