"""Calls whose facts are in the journal and not yet applied: a snapshot must not claim what the core does not have."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from fabric.errors import RuntimeFault

SETTLE_S = 30.0
POLL_S = 0.01


class UnderWay:
    """`with under_way():` around writing facts and having them applied. For all threads."""

    def __init__(self) -> None:
        self._calls: set[object] = set()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        call = object()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def settled_seq(self, last_seq: Callable[[], int]) -> int:
        """A number up to which every fact of the journal has been applied. Some behind it may have been, too: replay takes
        what a snapshot already has for what it is. Raises: RuntimeFault (`not_settled`) where a call hangs."""
        seq, before = last_seq(), set(self._calls)
        until_s = time.monotonic() + SETTLE_S
        while before & self._calls:
            if time.monotonic() > until_s:
                raise RuntimeFault("a submission is still being applied", code="not_settled")
            time.sleep(POLL_S)
        return seq
