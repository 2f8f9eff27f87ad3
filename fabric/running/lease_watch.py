"""Ends an attempt here when it may not be alive any more: its lease is gone, or Ray's head has been away for too long.

The head is where a later attempt would be granted, so a lease that it confirms proves that there is none; a rank that is
led elsewhere asks its leader besides, which may have given the attempt up. Invariant: an attempt that is watched is ended
at the latest `lease_s` after the last question that was answered with yes was asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

RENEW_S = 5.0
_log = logging.getLogger(__name__)


class LeaseWatch:
    """`is_held(attempt name, name of its leader)` asks Ray's head, and the leader where that is another (empty: it is
    here); it may block or raise while they are away. `end(attempt name)` returns at once."""

    def __init__(self, is_held: Callable[[str, str], bool], end: Callable[[str], None], lease_s: float, renew_s: float = RENEW_S) -> None:
        self._is_held = is_held
        self._end = end
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._renewed_s: dict[str, float] = {}
        self._leaders: dict[str, str] = {}
        # Two threads, since a question to a head that is away may block for longer than the lease.
        for target in (self._renew, self._guard):
            threading.Thread(target=target, name=f"lease-{target.__name__}", daemon=True).start()

    def add(self, name: str, leader: str = "") -> None:
        self._leaders[name] = leader
        self._renewed_s.setdefault(name, time.monotonic())

    def drop(self, name: str) -> None:
        self._renewed_s.pop(name, None)
        self._leaders.pop(name, None)

    def _renew(self) -> None:
        while True:
            time.sleep(self._renew_s)
            for name in list(self._renewed_s):
                asked_s = time.monotonic()
                try:
                    is_held = self._is_held(name, self._leaders.get(name, ""))
                except Exception as error:  # the head is away, in whatever words Ray says so: the guard counts
                    _log.info("lease not renewed attempt=%s because=%r", name, error)
                    continue
                if not is_held:
                    self._give_up(name, "its lease is gone")
                elif name in self._renewed_s:
                    self._renewed_s[name] = asked_s

    def _guard(self) -> None:
        while True:
            time.sleep(min(1.0, self._lease_s / 10))
            for name, renewed_s in list(self._renewed_s.items()):
                if time.monotonic() - renewed_s > self._lease_s:
                    self._give_up(name, f"its lease was not confirmed for {self._lease_s:.0f} s")

    def _give_up(self, name: str, why: str) -> None:
        if self._renewed_s.pop(name, None) is not None:
            _log.warning("attempt=%s ends because=%s", name, why)
            self._end(name)
