"""Decides what the model runs next and when: the head of the queue, with whom, and whether it pays to wait for more.

Everything here runs on virtual time as well: `benchmarks/serving/batching.py` drives it against recorded service times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from serve_apps.execution.queue import RequestQueue, Ticket, too_late
from serve_apps.execution.tuner import BatchTuner
from serve_apps.serve_options import ServeOptions

_OVERHEAD_S = 5e-5
"""What each call costs beside its run: taking it from the queue, handing it to a thread, telling its callers."""


class Batcher:
    """The queue of one model version and the rule that empties it. `now_s`: monotonic."""

    def __init__(self, options: ServeOptions, tuner: BatchTuner | None = None) -> None:
        self._max_rows = max(1, options.max_batch_size)
        self.queue = RequestQueue(options.max_queued)
        self.tuner = tuner or BatchTuner(self._max_rows, options.latency_budget_ms / 1000)
        self.wake_s = math.inf
        """When `next_batch` may have work that it has not now, if nothing else happens before."""

    def add(self, ticket: Ticket, now_s: float, num_free: int = 0) -> None:
        """`num_free`: calls that could start at once; their requests do not count as waiting.

        Raises: `RejectedError` (`queue_full`; `deadline_exceeded` where it has passed or cannot be kept).
        """
        if ticket.deadline_s < math.inf:
            # Half of what is expected: refusing what might have been in time is worse than trying.
            expected_s = self.tuner.run_s(ticket.rows) + self.queue.wait_s()
            if ticket.deadline_s - now_s < expected_s / 2:
                raise too_late(f"{max(0.0, ticket.deadline_s - now_s):.3f} s are left, about {expected_s:.3f} s are needed")
        self.queue.add(ticket, now_s, num_free * self._max_rows)
        self.tuner.note_arrival(ticket.rows, now_s)

    def next_batch(self, now_s: float) -> list[Ticket]:
        """What to run now; empty: nothing waits, or it pays to wait until `wake_s`."""
        self.wake_s = math.inf
        head = self.queue.head()
        if head is None:
            return []
        rows, until_s = self.tuner.choose(self.queue.rows_of(head.key), head.arrived_s, now_s)
        if rows == 0:
            self.wake_s = until_s
            return []
        batch = self.queue.take(rows)
        for ticket in batch:
            ticket.started_s = now_s
        return batch

    def note_ran(self, batch: Sequence[Ticket], run_s: float, now_s: float) -> None:
        """The model has run this batch."""
        self.tuner.note_run(sum(ticket.rows for ticket in batch), run_s + _OVERHEAD_S)
        self.queue.note_answered(len(batch), now_s)
