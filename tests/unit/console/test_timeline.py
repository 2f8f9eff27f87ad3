"""Bars of the timeline: those of a naive drawing, and never more than can be told apart."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.console.job_row import submitted_row
from fabric.console.job_table import JobTable
from fabric.console.lease_book import ENDS, LeaseBook
from fabric.console.timeline import MAX_BARS, Index, Window, bars, marks

NOW_S = 1000.0
OUTCOMES = ("ok", "error", "oom", "lost")


class Drawn:
    """Jobs j0, j1, … hold a node each for a while; some go on."""

    def __init__(self) -> None:
        self.table, self.book = JobTable({}), LeaseBook()
        self.index = Index(self.book)

    def hold(self, node: str, from_s: float, to_s: float | None, outcome: str = "ok", user: str = "ann") -> int:
        name = f"j{len(self.table.rows)}"
        job = self.table.take(submitted_row({"job_id": name, "name": name, "user": user, "queue": "default", "submitted_s": 0.0}))
        self.book.apply("JobDispatched", {"attempt": 1, "grant": {"option": [0, "big", 1, 1.0, 1.0], "nodes": [node]}}, from_s, job)
        if to_s is not None:
            self.book.apply("JobEnded", {"attempt": 1, "outcome": outcome}, to_s, job)
        return job

    def bars(self, nodes: list[str], window: Window, seen: Any = None) -> list[Any]:
        return bars(self.book, self.index, self.table, [self.book.nodes.known(node) for node in nodes], window, NOW_S, seen)

    def marks(self, nodes: list[str], window: Window) -> list[Any]:
        return marks(self.book, self.index, self.table, [self.book.nodes.known(node) for node in nodes], window, None)


def naive(drawn: Drawn, nodes: list[str], window: Window) -> list[Any]:
    """One lease after the other, as anybody would write it."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for number, (kind, node, lane, _, job, _, from_s, to_s, state, _) in enumerate(row for row in drawn.book.rows() if row[0] == "lease"):
        assert kind == "lease"
        to_s = min(to_s, NOW_S)
        if node not in nodes or from_s > window.to_s or to_s < window.from_s:
            continue
        row = nodes.index(node)
        is_short = to_s - from_s < window.pixel_s
        pixel = int(max(0.0, from_s - window.from_s) / window.pixel_s)
        found[(row, lane, pixel, -1) if is_short else (row, lane, pixel, number)].append((from_s, to_s, job, state))
    answer = []
    for (row, lane, *_), leases in found.items():
        states = {state for *_, state in leases}
        rows = drawn.table.rows
        job = rows[leases[0][2]]
        who = (job.id, job.name, job.user) if len(leases) == 1 else (None, "", "")
        how = ENDS[states.pop()] if len(states) == 1 else "mixed"
        begins, ends = min(each[0] for each in leases), max(each[1] for each in leases)
        answer.append([row, lane, round(begins, 3), round(ends, 3), len(leases), *who, how])
    return answer


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(0, 120), width=st.integers(10, 200), span=st.floats(1.0, 900.0))
def test_bars_are_those_of_a_naive_drawing(seed: int, num: int, width: int, span: float) -> None:
    chance, drawn, nodes = random.Random(seed), Drawn(), ["n1", "n2", "n3", "gone"]
    for _ in range(num):
        from_s = chance.uniform(0, NOW_S)
        to_s = None if chance.random() < 0.1 else from_s + chance.expovariate(1 / 20)
        drawn.hold(chance.choice(nodes[:3]), from_s, to_s if to_s is None or to_s < NOW_S else None, chance.choice(OUTCOMES))
    window = Window(NOW_S - span, NOW_S, width)
    assert sorted(map(str, drawn.bars(nodes, window))) == sorted(map(str, naive(drawn, nodes, window)))


def test_two_that_hold_a_node_at_once_are_in_two_lanes_and_a_lane_is_used_again() -> None:
    drawn = Drawn()
    drawn.hold("n1", 0.0, None)
    drawn.book.apply("JobDispatched", {"attempt": 2, "grant": {"option": [0, "big", 1, 1.0, 1.0], "nodes": ["n1"]}}, 1.0, 0)
    drawn.book.apply("JobEnded", {"attempt": 1, "outcome": "ok"}, 2.0, 0)
    drawn.hold("n1", 3.0, 4.0)
    assert [(bar[1], bar[2]) for bar in drawn.bars(["n1"], Window(0.0, 10.0, 100))] == [(0, 0.0), (0, 3.0), (1, 1.0)]


def test_twenty_thousand_leases_make_no_more_bars_than_can_be_drawn() -> None:
    chance, drawn, nodes = random.Random(1), Drawn(), [f"n{number}" for number in range(20)]
    for number in range(20_000):
        at_s = 0.05 * number
        drawn.hold(nodes[number % 20], at_s, at_s + chance.uniform(0.1, 0.9), chance.choice(OUTCOMES))
    for width in (50, 1200, 4000):
        found = drawn.bars(nodes, Window(0.0, NOW_S, width))
        assert len(found) <= MAX_BARS
        assert sum(bar[4] for bar in found) == 20_000, "each is in one bar"
    marked = drawn.marks(nodes, Window(0.0, NOW_S + 1.0, 4000))
    assert len(marked) <= MAX_BARS and sum(mark[3] for mark in marked) == sum(1 for row in drawn.book.rows() if row[0] == "mark")


def test_marks_say_what_went_wrong_where_and_when() -> None:
    drawn = Drawn()
    for number, outcome in enumerate(OUTCOMES):
        drawn.hold("n1", 10.0 * number, 10.0 * number + 5, outcome)
    job = drawn.hold("n2", 50.0, None)
    drawn.book.apply("JobPreempted", {"attempt": 1, "for_job": None}, 60.0, job)
    drawn.book.apply("JobVacated", {"attempt": 1}, 65.0, job)
    assert drawn.marks(["n1", "n2"], Window(0.0, 100.0, 1000)) == [
        [0, 15.0, "failed", 1, "j1", "j1"],
        [0, 25.0, "failed", 1, "j2", "j2"],
        [0, 35.0, "lost", 1, "j3", "j3"],
        [1, 60.0, "moved", 1, "j4", "j4"],
    ]
    assert [(bar[8], bar[3]) for bar in drawn.bars(["n2"], Window(0.0, 100.0, 1000))] == [("moved", 65.0)]


def test_what_ended_long_ago_is_forgotten_and_the_rest_stays() -> None:
    drawn, window = Drawn(), Window(0.0, NOW_S, 1000)
    drawn.hold("n1", 0.0, 10.0, "error")
    drawn.hold("n1", 20.0, 200.0)
    open_job = drawn.hold("n2", 5.0, None)
    drawn.book.forget(100.0)
    assert [(bar[0], bar[5]) for bar in drawn.bars(["n1", "n2"], window)] == [(0, "j1"), (1, "j2")] and drawn.marks(["n1"], window) == []
    drawn.book.apply("JobEnded", {"attempt": 1, "outcome": "ok"}, 300.0, open_job)
    assert drawn.bars(["n2"], window)[0][3] == 300.0 and drawn.book.by_node() == {}


def test_a_window_may_hold_nothing() -> None:
    drawn = Drawn()
    assert drawn.bars([], Window(0.0, 1.0, 10)) == drawn.bars(["nobody"], Window(0.0, 1.0, 10)) == []
