"""Who waits, who leaves in which order, and who is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.errors import RejectedError
from serve_apps.execution.queue import RequestQueue, Ticket

PRIORITY = st.sampled_from([0, 1, 2, 5, 9])
ACTION = st.one_of(
    st.tuples(st.just("add"), PRIORITY, st.sampled_from("ab"), st.integers(1, 4), st.one_of(st.just(math.inf), st.floats(0.0, 30.0))),
    st.tuples(st.just("take"), st.integers(1, 6)),
    st.tuples(st.just("drop"), st.integers(0, 50)),
    st.tuples(st.just("expire")),
)


class World:
    """A queue under any actions, with its own plain account of what must be true."""

    def __init__(self) -> None:
        self.queue = RequestQueue(max_queued=12)
        self.waiting: list[Ticket] = []
        self.left: list[Ticket] = []
        self.now_s = 0.0

    def add(self, priority: int, key: str, rows: int, deadline_s: float) -> None:
        ticket = Ticket(key=key, rows=rows, priority=priority, deadline_s=deadline_s)
        try:
            self.queue.add(ticket, self.now_s)
        except RejectedError as error:
            assert (error.code == "queue_full" and len(self.waiting) == 12) or deadline_s <= self.now_s
        else:
            self.waiting.append(ticket)

    def take(self, max_rows: int) -> None:
        ordered = sorted(self.waiting, key=lambda ticket: ticket.order)
        taken = self.queue.take(max_rows)
        if not ordered:
            assert taken == []
            return
        mates = [ticket for ticket in ordered if ticket.key == ordered[0].key]
        assert taken == mates[: len(taken)], "the head, and those behind it in order"
        assert len(taken) == 1 or sum(ticket.rows for ticket in taken) <= max_rows
        if len(taken) < len(mates):
            assert sum(ticket.rows for ticket in mates[: len(taken) + 1]) > max_rows, "no room was left unused"
        self._leave(taken)

    def drop(self, number: int) -> None:
        every = self.waiting + self.left
        if every:
            ticket = every[number % len(every)]
            assert self.queue.drop(ticket) == (ticket in self.waiting)
            if ticket in self.waiting:
                self._leave([ticket])

    def expire(self) -> None:
        late = self.queue.expire(self.now_s)
        assert {id(ticket) for ticket in late} == {id(ticket) for ticket in self.waiting if ticket.deadline_s <= self.now_s}
        self._leave(late)
        assert self.queue.next_deadline_s() == min((ticket.deadline_s for ticket in self.waiting), default=math.inf)

    def _leave(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.waiting.remove(ticket)
            self.left.append(ticket)

    def check(self) -> None:
        assert self.queue.num_waiting == len(self.waiting)
        for key in "ab":
            assert self.queue.rows_of(key) == sum(ticket.rows for ticket in self.waiting if ticket.key == key)
        head = self.queue.head()
        assert head is (min(self.waiting, key=lambda ticket: ticket.order) if self.waiting else None)


@given(st.lists(ACTION, max_size=60))
@settings(max_examples=150, deadline=None)
def test_nobody_is_lost_or_leaves_twice_and_the_order_is_kept(actions: list[tuple[object, ...]]) -> None:
    world = World()
    for name, *arguments in actions:
        world.now_s += 1.0
        getattr(world, str(name))(*arguments)
        world.check()
    rest = sorted(world.waiting, key=lambda ticket: ticket.order)
    assert world.queue.clear() == rest
    assert world.queue.num_waiting == 0
    assert world.queue.take(5) == []


def test_priority_one_leaves_first_and_zero_counts_as_five() -> None:
    queue = RequestQueue(10)
    tickets = {priority: Ticket(priority=priority) for priority in (0, 9, 1, 4, 6)}
    for ticket in tickets.values():
        queue.add(ticket, 0.0)
    assert [queue.take(1)[0].priority for _ in tickets] == [1, 4, 0, 6, 9]


def test_a_request_larger_than_a_batch_leaves_alone() -> None:
    queue = RequestQueue(10)
    for rows in (7, 1):
        queue.add(Ticket(rows=rows), 0.0)
    assert [ticket.rows for ticket in queue.take(4)] == [7]


def test_a_full_queue_says_when_to_come_back_by_the_rate_at_which_it_drains() -> None:
    queue = RequestQueue(20)
    for _ in range(20):
        queue.add(Ticket(), 0.0)
    for second in range(1, 4):
        queue.take(2)
        queue.note_answered(2, float(second))
        for _ in range(2):
            queue.add(Ticket(), float(second))
    with pytest.raises(RejectedError) as caught:
        queue.add(Ticket(), 4.0)
    assert caught.value.code == "queue_full"
    assert caught.value.retryable
    assert caught.value.retry_after_s == pytest.approx(10.0)


def test_who_could_start_at_once_is_let_in_beyond_the_limit() -> None:
    queue = RequestQueue(0)
    queue.add(Ticket(), 0.0, num_spare=1)
    with pytest.raises(RejectedError):
        queue.add(Ticket(), 0.0, num_spare=1)


def test_keys_that_have_gone_cost_no_memory() -> None:
    queue = RequestQueue(10)
    for number in range(100):
        ticket = Ticket(key=number, deadline_s=50.0)
        queue.add(ticket, 0.0)
        queue.drop(ticket)
    assert (queue._by_key, queue._rows, queue._by_order) == ({}, {}, [])
