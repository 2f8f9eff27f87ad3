"""When an attempt must end because it may not be alone any more. No Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fabric.running.lease_watch import LeaseWatch


class Head:
    """Ray's head, as far as leases go."""

    def __init__(self) -> None:
        self.leases = {"lease-a.1", "lease-b.1"}
        self.is_away = False
        self.hangs = threading.Event()
        self.hangs.set()

    def is_held(self, name: str, leader: str) -> bool:
        self.hangs.wait(30)
        if self.is_away:
            raise ConnectionError("away")
        return f"lease-{name}" in self.leases


def watched(head: Head, lease_s: float) -> list[str]:
    ended: list[str] = []
    watch = LeaseWatch(head.is_held, ended.append, lease_s, renew_s=0.02)
    watch.add("a.1")
    watch.add("b.1")
    return ended


def soon(read: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 10
    while not read():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_attempt_ends_when_its_lease_is_gone_and_no_other_does() -> None:
    head = Head()
    ended = watched(head, 0.3)
    head.leases.remove("lease-a.1")
    soon(lambda: ended == ["a.1"])
    time.sleep(0.5)
    assert ended == ["a.1"]


def test_a_head_that_is_away_for_less_than_the_lease_ends_nothing() -> None:
    head = Head()
    ended = watched(head, 1.0)
    head.is_away = True
    time.sleep(0.4)
    head.is_away = False
    time.sleep(1.0)
    assert not ended


def test_a_head_that_is_away_for_longer_ends_every_attempt_once() -> None:
    head = Head()
    ended = watched(head, 0.2)
    head.is_away = True
    soon(lambda: sorted(ended) == ["a.1", "b.1"])


def test_a_question_that_hangs_does_not_hold_up_the_end() -> None:
    head = Head()
    ended = watched(head, 0.2)
    head.hangs.clear()
    soon(lambda: sorted(ended) == ["a.1", "b.1"])
    head.hangs.set()
