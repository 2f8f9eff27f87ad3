"""Batches on virtual time: every request is answered once, in order, within what was allowed."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.errors import RejectedError
from serve_apps.execution.batcher import Batcher
from serve_apps.execution.queue import Ticket
from serve_apps.serve_options import ServeOptions


@dataclass
class Answered:
    ticket: Ticket
    at_s: float
    batch: int


def run(batcher: Batcher, arrivals: list[tuple[float, Ticket]], fixed_s: float, per_row_s: float, num_slots: int) -> list[Answered]:
    """All answers, in the order in which the batches ended. Fails where the batcher sleeps while there is work."""
    answered: list[Answered] = []
    running: list[tuple[float, int, list[Ticket], float]] = []
    at, number = 0, 0
    while at < len(arrivals) or running or batcher.queue.num_waiting:
        came_s = arrivals[at][0] if at < len(arrivals) else math.inf
        ended_s = running[0][0] if running else math.inf
        wake_s = batcher.wake_s if len(running) < num_slots else math.inf
        now_s = min(came_s, ended_s, wake_s)
        assert now_s < math.inf, "requests wait, a slot is free, and nothing would ever happen"
        if ended_s == now_s:
            _, batch_number, batch, took_s = heapq.heappop(running)
            answered += [Answered(ticket, now_s, batch_number) for ticket in batch]
            batcher.note_ran(batch, took_s, now_s)
        elif came_s == now_s:
            batcher.add(arrivals[at][1], now_s)
            at += 1
        while len(running) < num_slots and (batch := batcher.next_batch(now_s)):
            took_s = fixed_s + per_row_s * sum(ticket.rows for ticket in batch)
            number += 1
            heapq.heappush(running, (now_s + took_s, number, batch, took_s))
    return answered


REQUESTS = st.lists(st.tuples(st.floats(0.0, 0.02), st.integers(1, 4), st.sampled_from("ab"), st.sampled_from([0, 1, 9])), max_size=80)


@given(REQUESTS, st.sampled_from([1, 4, 16]), st.floats(0.0, 0.01), st.floats(1e-5, 0.005), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_every_request_is_answered_once_and_shares_a_call_only_with_its_like(
    given_requests: list[tuple[float, int, str, int]], max_rows: int, fixed_s: float, per_row_s: float, num_slots: int
) -> None:
    batcher = Batcher(ServeOptions(max_batch_size=max_rows, latency_budget_ms=30.0))
    arrivals, now_s = [], 0.0
    for gap_s, rows, key, priority in given_requests:
        now_s += gap_s
        arrivals.append((now_s, Ticket(key=key, rows=min(rows, max_rows), priority=priority)))
    answered = run(batcher, arrivals, fixed_s, per_row_s, num_slots)
    assert sorted(id(one.ticket) for one in answered) == sorted(id(ticket) for _, ticket in arrivals)
    batches: dict[int, list[Ticket]] = {}
    for one in answered:
        batches.setdefault(one.batch, []).append(one.ticket)
    for batch in batches.values():
        assert len({ticket.key for ticket in batch}) == 1
        assert sum(ticket.rows for ticket in batch) <= max_rows
    if num_slots == 1:
        alike: dict[tuple[object, int], list[tuple[int, int]]] = {}
        for one in answered:
            alike.setdefault((one.ticket.key, one.ticket.priority), []).append(one.ticket.order)
        assert all(orders == sorted(orders) for orders in alike.values()), "equal requests are answered in the order they came"


def test_a_deadline_that_cannot_be_kept_is_refused_at_the_door() -> None:
    batcher = Batcher(ServeOptions())
    for number in range(5):
        batcher.add(Ticket(), float(number))
        batcher.note_ran(batcher.next_batch(float(number)), 0.5, number + 0.5)
    with pytest.raises(RejectedError) as caught:
        batcher.add(Ticket(deadline_s=10.1), 10.0)
    assert caught.value.code == "deadline_exceeded"
    batcher.add(Ticket(deadline_s=10.4), 10.0)  # doubtful, and tried
