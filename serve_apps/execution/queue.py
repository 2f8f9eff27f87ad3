"""Decides who waits, in which order they leave, and who is refused at the door.

Priority 1 leaves first, equal ones in the order they came. Invariants: a ticket leaves exactly once (taken, expired or dropped);
no more than `max_queued` wait; of two waiting tickets that may share a call, the one earlier in the order never leaves later.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from fabric.errors import RejectedError

DEFAULT_PRIORITY = 5
"""What a request's priority 0 counts as: there is room above and below it."""
_LEAST_RETRY_S = 0.05
_MOST_RETRY_S = 30.0
_RATE_MEMORY = 0.9
WAITING, LEFT = "waiting", "left"

Order = tuple[int, int]


@dataclass(slots=True, eq=False)
class Ticket:
    """One request on its way. `key`: only tickets of equal keys share a call; `rows`: how much of a batch it takes.

    `payload` and `carry` are the shell's: the arguments, and whom to answer.
    """

    payload: Any = None
    key: Hashable = None
    rows: int = 1
    priority: int = 0
    deadline_s: float = math.inf
    carry: Any = None
    arrived_s: float = 0.0
    started_s: float = 0.0
    state: str = field(default="", init=False)
    order: Order = field(default=(0, 0), init=False)


class RequestQueue:
    """The waiting tickets of one model version. `now_s`: monotonic."""

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._by_key: dict[Hashable, list[tuple[Order, Ticket]]] = {}
        self._by_order: list[tuple[Order, Ticket]] = []
        self._by_deadline: list[tuple[float, int, Ticket]] = []
        self._rows: dict[Hashable, int] = {}
        self._number = 0
        self.num_waiting = 0
        self.rate_per_s = 0.0
        self._left_s: float | None = None

    def add(self, ticket: Ticket, now_s: float, num_spare: int = 0) -> None:
        """`num_spare`: how many could start at once; so many more are let in.

        Raises: `RejectedError` (`queue_full`, with `retry_after_s`; `deadline_exceeded` where the deadline has passed).
        """
        if ticket.deadline_s <= now_s:
            raise too_late("the deadline passed before the request was queued")
        if self.num_waiting >= self._max_queued + num_spare:
            raise RejectedError(
                f"{self.num_waiting} requests wait already",
                code="queue_full",
                hint="come back later, or deploy more replicas",
                retryable=True,
                retry_after_s=self.retry_after_s(),
            )
        self._number += 1
        ticket.order = (ticket.priority or DEFAULT_PRIORITY, self._number)
        ticket.arrived_s, ticket.state = now_s, WAITING
        entry = (ticket.order, ticket)
        heapq.heappush(self._by_order, entry)
        heapq.heappush(self._by_key.setdefault(ticket.key, []), entry)
        if ticket.deadline_s < math.inf:
            heapq.heappush(self._by_deadline, (ticket.deadline_s, self._number, ticket))
        self._rows[ticket.key] = self._rows.get(ticket.key, 0) + ticket.rows
        self.num_waiting += 1

    def head(self) -> Ticket | None:
        """Who leaves next."""
        while self._by_order and self._by_order[0][1].state != WAITING:
            heapq.heappop(self._by_order)
        return self._by_order[0][1] if self._by_order else None

    def rows_of(self, key: Hashable) -> int:
        """Rows that wait and may share a call."""
        return self._rows.get(key, 0)

    def take(self, max_rows: int) -> list[Ticket]:
        """The head and those behind it that share its call, up to `max_rows` rows; the head leaves whatever its size."""
        head = self.head()
        if head is None:
            return []
        mates, rows = self._by_key[head.key], 0
        taken: list[Ticket] = []
        while mates:
            ticket = mates[0][1]
            if ticket.state == WAITING:
                if taken and rows + ticket.rows > max_rows:
                    break
                taken.append(ticket)
                rows += ticket.rows
                self._leave(ticket)
            heapq.heappop(mates)
        if not mates:
            del self._by_key[head.key]
        return taken

    def drop(self, ticket: Ticket) -> bool:
        """Its caller went away. False where it had left already."""
        if ticket.state != WAITING:
            return False
        self._leave(ticket)
        self._sweep(ticket.key)
        return True

    def expire(self, now_s: float) -> list[Ticket]:
        """Those whose deadline has passed; they have left."""
        late = []
        while self._by_deadline and (self._by_deadline[0][0] <= now_s or self._by_deadline[0][2].state != WAITING):
            ticket = heapq.heappop(self._by_deadline)[2]
            if ticket.state == WAITING:
                self._leave(ticket)
                self._sweep(ticket.key)
                late.append(ticket)
        return late

    def next_deadline_s(self) -> float:
        """When `expire` has work again; infinite where no one who waits has a deadline."""
        while self._by_deadline and self._by_deadline[0][2].state != WAITING:
            heapq.heappop(self._by_deadline)
        return self._by_deadline[0][0] if self._by_deadline else math.inf

    def clear(self) -> list[Ticket]:
        """All who wait, in order; they have left."""
        waiting = [ticket for _, ticket in sorted(self._by_order, key=lambda entry: entry[0]) if ticket.state == WAITING]
        for ticket in waiting:
            self._leave(ticket)
        self._by_key.clear()
        self._by_order.clear()
        return waiting

    def note_answered(self, count: int, now_s: float) -> None:
        """`count` answers left the model while others waited: what the drain rate is learnt from."""
        if self._left_s is not None and now_s > self._left_s:
            rate = count / (now_s - self._left_s)
            self.rate_per_s = rate if self.rate_per_s == 0.0 else _RATE_MEMORY * self.rate_per_s + (1 - _RATE_MEMORY) * rate
        self._left_s = now_s if self.num_waiting else None

    def wait_s(self) -> float:
        """How long those who wait now take to leave, at the rate at which answers left so far; 0 where nothing is known."""
        return self.num_waiting / self.rate_per_s if self.rate_per_s > 0.0 else 0.0

    def retry_after_s(self) -> float:
        """When to come back; 1 s where nothing is known."""
        return min(_MOST_RETRY_S, max(_LEAST_RETRY_S, self.wait_s())) if self.rate_per_s > 0.0 else 1.0

    def _leave(self, ticket: Ticket) -> None:
        ticket.state = LEFT
        self.num_waiting -= 1
        rows = self._rows[ticket.key] - ticket.rows
        if rows:
            self._rows[ticket.key] = rows
        else:
            del self._rows[ticket.key]

    def _sweep(self, key: Hashable) -> None:
        """Those who left by another way than `take` go from the front, so that a key without tickets costs no memory."""
        mates = self._by_key.get(key)
        while mates and mates[0][1].state != WAITING:
            heapq.heappop(mates)
        if mates is not None and not mates:
            del self._by_key[key]
        self.head()


def too_late(why: str) -> RejectedError:
    return RejectedError(why, code="deadline_exceeded", hint="allow more time, or send less", retryable=False)
