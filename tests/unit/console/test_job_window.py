"""Windows of the list of jobs: those of a naive filter and sort, however they are asked for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.api.tokens import IMPLIED, Principal
from fabric.console.job_row import PENDING, STATES, SUCCEEDED, JobRow, submitted_row
from fabric.console.job_table import NO_PLACE, JobTable
from fabric.console.job_window import SORTS, Filter, JobOrder
from fabric.console.sight import sight_of
from fabric.errors import RejectedError, UnknownNameError

USERS, QUEUES = ("ann", "bob", "<b>"), ("default", "prod")


def made(seed: int, num: int) -> JobTable:
    """Jobs in all states; some that wait have been given places by the scheduler."""
    chance, table = random.Random(seed), JobTable({})
    for number in range(num):
        row = submitted_row(
            {
                "job_id": f"id-{number:04d}",
                "name": f"{chance.choice(('Train', 'eval', '<script>'))}-{number}",
                "user": chance.choice(USERS),
                "queue": chance.choice(QUEUES),
                "submitted_s": float(chance.randrange(1000)),
            }
        )
        row.state, row.attempt, row.units = chance.randrange(len(STATES)), chance.randrange(4), float(chance.randrange(9))
        row.flavor, row.priority = chance.choice(("", "big")), chance.choice(("", "high"))
        row.started_s = chance.choice((None, float(number)))
        row.ended_s = float(chance.randrange(10**6)) if row.state >= SUCCEEDED else None
        table.take(row)
    waiting = [row for row in table.rows if row.state == PENDING]
    chance.shuffle(waiting)
    table.hear([{"id": row.id, "position": place} for place, row in enumerate(waiting[: num // 2], 1)])
    return table


def default_key(table: JobTable, row: JobRow) -> Any:
    number = table.numbers[row.id]
    if row.state == PENDING:
        return 1, int(table.columns.get(number, "place")), row.submitted_s, number
    return (2, -(row.ended_s or 0.0), row.submitted_s, number) if row.is_final else (0, 0.0, row.submitted_s, number)


def naive(table: JobTable, who: Principal, wanted: Filter) -> list[JobRow]:
    reads = "read" in who.scopes
    return sorted(
        (
            row
            for row in table.rows
            if (row.user == who.user or (reads and who.reaches(row.queue)))
            and (not wanted.states or STATES[row.state] in wanted.states)
            and wanted.queue in (None, "", row.queue)
            and wanted.user in (None, "", row.user)
            and (not wanted.text or any(wanted.text.lower() in word.lower() for word in (row.name, row.user, row.queue, row.id)))
        ),
        key=lambda row: default_key(table, row),
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num=st.integers(0, 80),
    states=st.sets(st.sampled_from(STATES), max_size=3),
    queue=st.sampled_from(("", *QUEUES, "none")),
    user=st.sampled_from(("", *USERS)),
    text=st.sampled_from(("", "TRAIN", "<script>", "-1", "prod")),
    scope=st.sampled_from(("submit", "read", "operate", "admin")),
    bound=st.sets(st.sampled_from(QUEUES), max_size=1),
    offset=st.integers(0, 40),
    limit=st.integers(1, 40),
)
def test_a_window_is_that_of_a_naive_sort(
    seed: int, num: int, states: set[str], queue: str, user: str, text: str, scope: str, bound: set[str], offset: int, limit: int
) -> None:
    table, who = made(seed, num), Principal("ann", IMPLIED[scope], frozenset(bound))
    wanted, order = Filter(states, queue, user, text), JobOrder(table)
    expected = naive(table, who, wanted)
    numbers, total, counts = order.window(wanted, sight_of(who).mask(table), "", False, offset, limit)
    assert [table.rows[number].id for number in numbers] == [row.id for row in expected[offset : offset + limit]]
    assert total == len(expected)
    of_any = naive(table, who, Filter((), queue, user, text))
    assert counts == {state: n for state in STATES if (n := sum(STATES[row.state] == state for row in of_any))}
    waiting = sorted((row for row in table.rows if row.state == PENDING), key=lambda row: default_key(table, row))
    assert [order.place(table.numbers[row.id]) for row in waiting] == list(range(1, len(waiting) + 1))


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_every_column_sorts_both_ways(sort: str, descending: bool) -> None:
    table = made(7, 60)
    numbers, total, _ = JobOrder(table).window(Filter(), None, sort, descending, 0, 100)
    values = [table.columns.get(number, sort) if sort in ("ended_s",) else getattr(table.rows[number], sort) for number in numbers]
    if sort == "state":
        values = [(not table.rows[number].is_holding, value) for number, value in zip(numbers, values, strict=True)]
    values = [0.0 if value is None else value for value in values]
    assert total == 60 and values == sorted(values, reverse=descending)
    assert len(set(values)) > 1


def test_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UnknownNameError) as refused:
        JobOrder(made(1, 3)).window(Filter(), None, "nmae", False, 0, 10)
    assert refused.value.code == "unknown_sort" and refused.value.hint == "did you mean name?"


def test_the_order_follows_what_changes() -> None:
    table = made(3, 0)
    order = JobOrder(table)
    for name in ("first", "second"):
        table.apply("JobSubmitted", {"spec": {"job_id": name, "name": name, "user": "ann", "queue": "q", "submitted_s": 1.0}}, 1.0)
    assert [order.place(number) for number in (0, 1)] == [1, 2]
    table.hear([{"id": "second", "position": 1}, {"id": "first", "position": 2}, {"id": "unheard of", "position": 3}])
    assert [order.place(number) for number in (0, 1)] == [2, 1]
    table.apply("JobDispatched", {"job_id": "second", "attempt": 1, "grant": {"option": [0, "big", 1, 1.0, 1.0], "nodes": ["n"]}}, 2.0)
    assert [order.place(number) for number in (0, 1)] == [1, None]
    table.hear([])
    assert table.columns.get(0, "place") == NO_PLACE and order.place(0) == 1, "of whom nothing is said the older comes first"


def test_a_token_that_only_asks_models_sees_nothing() -> None:
    with pytest.raises(RejectedError) as refused:
        sight_of(Principal("ann", IMPLIED["infer"]))
    assert refused.value.code == "forbidden"
