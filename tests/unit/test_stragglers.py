"""Slow nodes are found, healthy ones are not named, and what becomes of a slow one. Simulated fabrics, no Ray."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.plane.slow_nodes import DRAIN_AFTER_S, SlowNodes
from fabric.policy import Policy
from fabric.status_form import fabric_json, format_status, pool_json
from fabric.types import Node, PoolSnapshot, Run
from profiler.node_effects import Comparison, effect_of, reference_of, sample_of
from profiler.stragglers import Straggler, Stragglers
from tests.fleet import COLD, FLAVORS

TASKS = ("detect", "embed", "score")
LOOK_S = 5.0


def nodes_of(*names: str, slowdowns: Mapping[str, float] | None = None) -> dict[str, Node]:
    return {name: Node(name, f"host-{name}", "cold", "cpu", {"CPU": 4.0}, slowdown=(slowdowns or {}).get(name)) for name in names}


def run(node_id: str, task: str, wall_s: float) -> Run:
    return Run("c", f"{task}@1", 3, "cpu", "cpu", node_id, wall_s, wall_s, 0)


class Fleet:
    """Runs every task on every node once a second, `slower(node, task, now_s)` times as long as it should, and looks every 5 s."""

    def __init__(
        self,
        nodes: dict[str, Node],
        slower: Callable[[str, str, float], float],
        *,
        seed: int = 0,
        sd: float = 0.3,
        tasks: tuple[str, ...] = TASKS,
    ) -> None:
        self.nodes, self.slower, self.tasks, self.sd = nodes, slower, tasks, sd
        self.luck, self.stragglers, self.now_s = random.Random(seed), Stragglers(), 0.0
        self.ever: dict[str, float] = {}
        self.stragglers.look(nodes, 0.0)

    def play(self, seconds: float, only: tuple[str, ...] = ()) -> list[Straggler]:
        named: list[Straggler] = []
        for _ in range(round(seconds)):
            self.now_s += 1.0
            for node_id in only or self.nodes:
                for i, task in enumerate(self.tasks):
                    wall_s = 0.05 * (i + 1) * self.slower(node_id, task, self.now_s) * math.exp(self.luck.gauss(0.0, self.sd))
                    self.stragglers.observe(run(node_id, task, wall_s), self.now_s)
            if self.now_s % LOOK_S == 0:
                named = self.stragglers.look(self.nodes, self.now_s)
                for one in named:
                    self.ever.setdefault(one.node_id, self.now_s)
        return named


# -- nobody is named wrongly -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_nodes", [2, 3, 8])
@pytest.mark.parametrize("sd", [0.05, 0.5, 1.0])
def test_chance_names_nobody(num_nodes: int, sd: float) -> None:
    for seed in range(40):
        fleet = Fleet(nodes_of(*(f"n{i}" for i in range(num_nodes))), lambda *_: 1.0, seed=seed, sd=sd)
        fleet.play(120)
        assert fleet.ever == {}, (seed, fleet.ever)


@settings(max_examples=40, deadline=None)
@given(factor=st.floats(0.05, 50.0), num_nodes=st.integers(2, 5), num_tasks=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_one_odd_task_names_nobody(factor: float, num_nodes: int, num_tasks: int, seed: int) -> None:
    tasks = ("odd", "detect", "embed", "score")[:num_tasks]
    names = [f"n{i}" for i in range(num_nodes)]
    fleet = Fleet(nodes_of(*names), lambda node, task, _: factor if (node, task) == ("n0", "odd") else 1.0, seed=seed, tasks=tasks)
    fleet.play(60)
    assert fleet.ever == {}


def test_cold_workers_a_slow_hour_of_all_and_a_node_that_joins_then_name_nobody() -> None:
    def slower(node: str, _task: str, now_s: float) -> float:
        joined_s = 60.0 if node == "late" else 0.0
        return (6.0 if now_s < joined_s + 4.0 else 1.0) * (2.5 if now_s > 70.0 else 1.0)

    for seed in range(5):
        fleet = Fleet(nodes_of("a", "b", "late"), slower, seed=seed)
        fleet.play(60, only=("a", "b"))
        fleet.play(20)
        fleet.play(10, only=("a", "late"))  # what "b" did before all became slower is no measure for them
        fleet.play(90)
        assert fleet.ever == {}


def test_the_declared_slowdown_of_a_twin_is_taken_off_and_what_is_beyond_it_is_found() -> None:
    nodes = nodes_of("a", "b", "c", slowdowns={"a": 1.0, "b": 4.0, "c": 1.0})
    fleet = Fleet(nodes, lambda node, *_: 4.0 if node == "b" else 1.0)
    assert fleet.play(60) == [] and fleet.ever == {}
    fleet = Fleet(nodes, lambda node, *_: 10.0 if node == "b" else 1.0)
    (named,) = fleet.play(60)
    assert named.node_id == "b" and named.factor == pytest.approx(2.5, rel=0.15)


def test_one_node_one_task_or_two_flavors_are_never_compared() -> None:
    for nodes, tasks in ((nodes_of("a"), TASKS), (nodes_of("a", "b"), TASKS[:1])):
        fleet = Fleet(nodes, lambda node, *_: 9.0 if node == "a" else 1.0, tasks=tasks)
        assert fleet.play(60) == []
    stragglers = Stragglers()
    stragglers.look(nodes_of("a", "b"), 0.0)
    for i in range(200):
        for task in TASKS:
            stragglers.observe(run("a", task, 9.0), float(i))
            stragglers.observe(replace(run("b", task, 1.0), flavor="other"), float(i))
    assert stragglers.look(nodes_of("a", "b"), 201.0) == []


# -- slow ones are found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "most_s"), [(2.0, 60.0), (3.0, 45.0), (10.0, 40.0)])
def test_a_slow_node_is_named_soon_with_its_factor(factor: float, most_s: float) -> None:
    for num_nodes, seed in ((2, 1), (3, 2), (8, 3)):
        names = [f"n{i}" for i in range(num_nodes)]
        fleet = Fleet(nodes_of(*names), lambda node, *_: factor if node == "n1" else 1.0, seed=seed)
        (named,) = fleet.play(90)
        assert named.node_id == "n1" and named.factor == pytest.approx(factor, rel=0.3)
        assert fleet.ever["n1"] <= most_s and (named.num_tasks, named.flavor) == (3, "cpu") and named.num_runs >= 16


def test_two_slow_nodes_of_five_are_both_found() -> None:
    fleet = Fleet(nodes_of(*"abcde"), lambda node, *_: 3.0 if node in "ab" else 1.0)
    assert {one.node_id for one in fleet.play(120)} == {"a", "b"}


def test_a_name_is_kept_without_work_lost_by_better_runs_and_gone_with_the_node() -> None:
    fleet = Fleet(nodes_of("a", "b", "c"), lambda node, _, now_s: 3.0 if node == "a" and now_s < 100.0 else 1.0)
    assert [one.node_id for one in fleet.play(95)] == ["a"]
    assert [one.node_id for one in fleet.play(2000, only=("b", "c"))] == ["a"]
    assert fleet.play(60) == []
    fleet = Fleet(nodes_of("a", "b"), lambda node, *_: 3.0 if node == "a" else 1.0)
    fleet.play(90)
    assert fleet.stragglers.look(nodes_of("b"), 91.0) == []


def test_a_node_that_is_forgotten_must_be_proven_slow_anew() -> None:
    fleet = Fleet(nodes_of("a", "b"), lambda node, *_: 3.0 if node == "a" else 1.0)
    assert fleet.play(60)
    fleet.stragglers.forget("a")
    assert fleet.play(5) == []
    assert fleet.play(60)


def test_failed_runs_and_those_of_unknown_nodes_say_nothing() -> None:
    stragglers = Stragglers()
    stragglers.look(nodes_of("a", "b"), 0.0)
    for i in range(200):
        for task in TASKS:
            stragglers.observe(replace(run("a", task, 9.0), outcome="error"), float(i))
            stragglers.observe(run("b", task, 1.0), float(i))
            stragglers.observe(run("new", task, 9.0), float(i))
    assert stragglers.look(nodes_of("a", "b", "new"), 201.0) == []


def test_an_effect_is_what_half_of_the_tasks_say_and_its_bound_is_below_it() -> None:
    own, like = sample_of([1.0] * 20), reference_of([sample_of([0.0] * 20)] * 4)  # type: ignore[list-item]
    assert own is not None and like is not None and sample_of([1.0, 1.0]) is None and reference_of([]) is None
    calm = Comparison("c", own._replace(mean=0.0), like)
    effect = effect_of([Comparison("a", own, like), Comparison("b", own, like), calm])
    assert effect is not None and effect.shift == pytest.approx(1.0) and 0.0 < effect.bound < 1.0
    assert effect_of([Comparison("a", own, like), calm]).shift == 0.0  # type: ignore[union-attr]
    assert effect_of([Comparison("a", own, like)]) is None


# -- what becomes of them --------------------------------------------------------------------------------------------------

NAMED_S = 1000.0


def named(node_id: str, factor: float = 2.0) -> Straggler:
    return Straggler(node_id, "cpu", factor, 41, 3, NAMED_S)


@pytest.mark.parametrize(
    ("policy", "after_s", "kinds"),
    [
        (Policy(), 1e6, []),
        (Policy(stragglers="cordon"), 0.0, ["cordon"]),
        (Policy(stragglers="cordon", slower_than=2.5), 0.0, []),
        (Policy(stragglers="drain"), DRAIN_AFTER_S - 1.0, []),
        (Policy(stragglers="drain"), DRAIN_AFTER_S, ["drain"]),
    ],
)
def test_the_policy_says_what_becomes_of_a_slow_node(policy: Policy, after_s: float, kinds: list[str]) -> None:
    found = SlowNodes().decide(policy, [named("a")], nodes_of("a", "b"), NAMED_S + after_s)
    assert [each.kind for each in found] == kinds
    assert all(each.why == "2.0 x slower than its like on cpu (41 runs of 3 tasks)" for each in found)


def test_the_last_node_of_a_flavor_and_half_of_all_stay() -> None:
    policy = Policy(stragglers="cordon")

    def cordoned(nodes: dict[str, Node], *slow: str) -> list[str]:
        return [each.node.node_id for each in SlowNodes().decide(policy, [named(name) for name in slow], nodes, NAMED_S)]

    assert cordoned(nodes_of("a"), "a") == []
    assert cordoned(nodes_of("a", "b"), "a", "b") == ["a"]
    nodes = nodes_of(*"abcd")
    assert cordoned(nodes, "a", "b", "c") == ["a", "b"]
    nodes["d"] = replace(nodes["d"], health="cordoned")
    assert cordoned(nodes, "a", "b") == ["a"]
    assert cordoned({**nodes_of("a"), "x": replace(nodes_of("x")["x"], flavor="other")}, "a") == []


def test_a_node_that_somebody_uncordons_is_judged_anew_and_not_cordoned_again_at_once() -> None:
    policy, slow_nodes, nodes = Policy(stragglers="cordon"), SlowNodes(), nodes_of("a", "b")

    def kinds(nodes: dict[str, Node]) -> list[str]:
        return [each.kind for each in slow_nodes.decide(policy, [named("a")], nodes, NAMED_S)]

    closed = {**nodes, "a": replace(nodes["a"], health="cordoned")}
    assert kinds(nodes) == ["cordon"] and kinds(closed) == [] and kinds(closed) == []
    assert kinds(nodes) == ["forget"]
    assert kinds(nodes) == ["cordon"], "the profiler has named it by new runs"


def test_status_names_a_slow_node_with_what_is_behind_it() -> None:
    nodes = nodes_of("abcdef012345", "b")
    pool = pool_json(PoolSnapshot("cold", 1, tuple(nodes.values())), FLAVORS)
    form = fabric_json("lab", "head:6379", [pool], [], [Straggler("abcdef012345", COLD.name, 1.84, 41, 3, 5.0)])
    assert form["stragglers"] == [
        {"node_id": "abcdef012345", "card": None, "flavor": "cpu", "factor": 1.84, "runs": 41, "tasks": 3, "since_s": 5.0}
    ]
    assert "node abcdef01 (host-abcdef012345): 1.8 × slower than its like on cpu (41 runs of 3 tasks)" in format_status(form).splitlines()
