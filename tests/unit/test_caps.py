"""Which calls have to end, and how a machine's agent finds and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.call_slot import END_SIGNAL, Page, Running, Slot
from fabric.process_memory import held_bytes, of_status, tree
from pools.call_watch import CallWatch
from pools.caps import GRACE_S, Caps, End, Seen

MIB = 2**20


def seen(used_bytes: int, *, cap_bytes: int = 100, deadline_s: float = 0.0, number: int = 1) -> Seen:
    return Seen(7, number, cap_bytes, used_bytes, deadline_s)


def test_a_call_within_its_caps_is_left_alone() -> None:
    assert Caps().look(5.0, [seen(100), seen(10**9, cap_bytes=0), seen(1, deadline_s=5.0)]) == []


def test_a_call_over_its_memory_is_told_and_killed_after_the_grace() -> None:
    caps = Caps()
    assert caps.look(1.0, [seen(101)]) == [End(7, 1, "oom", 101, False)]
    assert caps.look(1.1, [seen(150)]) == [End(7, 1, "oom", 150, False)]
    assert caps.look(1.0 + GRACE_S["oom"], [seen(160)]) == [End(7, 1, "oom", 160, True)]


def test_one_that_lets_go_of_its_memory_starts_anew() -> None:
    caps = Caps()
    caps.look(1.0, [seen(101)])
    assert caps.look(1.2, [seen(90)]) == []
    assert caps.look(1.0 + GRACE_S["oom"], [seen(101)]) == [End(7, 1, "oom", 101, False)]


def test_the_next_call_of_the_worker_is_told_anew() -> None:
    caps = Caps()
    caps.look(1.0, [seen(101)])
    assert caps.look(1.0 + GRACE_S["oom"], [seen(101, number=2)]) == [End(7, 2, "oom", 101, False)]


def test_a_call_past_its_deadline_is_ended() -> None:
    assert Caps().look(5.1, [seen(1, deadline_s=5.0)]) == [End(7, 1, "timeout", 1, False)]


# -- pages -----------------------------------------------------------------------------------------------------------------


def test_a_page_shows_the_call_that_runs_and_nothing_between_calls(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "calls")
    page = Page(tmp_path / "calls" / str(os.getpid()))
    assert page.is_alive()
    assert page.read() is None
    slot.begin(5, 4, 3, 1.5, 2.5, "c1", ("task", "täsk"))
    assert page.read() == Running(os.getpid(), 1, 5, 4, 3, 1.5, 2.5, "c1", ("task", "täsk"))
    slot.end()
    assert page.read() is None


def test_what_is_too_long_for_a_page_is_left_out(tmp_path: Path) -> None:
    slot = Slot(tmp_path)
    slot.begin(5, 4, 3, 1.5, 2.5, "c1", ("x" * 10_000,))
    running = Page(tmp_path / str(os.getpid())).read()
    assert running is not None
    assert running.what == ()


@pytest.fixture
def told() -> Iterator[threading.Event]:
    event = threading.Event()
    before = signal.signal(END_SIGNAL, lambda *_: event.set())
    yield event
    signal.signal(END_SIGNAL, before)


def test_only_the_call_that_was_meant_is_told_to_end(tmp_path: Path, told: threading.Event) -> None:
    slot = Slot(tmp_path)
    slot.begin(5, 4, 3, 1.5, 0.0, "c1", ())
    Page(tmp_path / str(os.getpid())).tell_to_end(1, 99)
    assert told.wait(5)
    assert slot.told_to_end() == 99
    slot.end()
    assert slot.told_to_end() is None
    slot.begin(5, 4, 3, 1.5, 0.0, "c1", ())
    assert slot.told_to_end() is None


def test_the_watch_tells_a_call_that_holds_more_than_its_cap(tmp_path: Path, told: threading.Event) -> None:
    slot = Slot(tmp_path)
    watch = CallWatch(tmp_path, on_kill=lambda *_: None)
    slot.begin(10**12, 10**12, 0, 0.0, 0.0, "c1", ("call",))
    watch.look()
    slot.end()
    slot.begin(MIB, MIB, 0, 0.0, 0.0, "c1", ("call",))
    watch.look()
    assert told.wait(5)
    assert (slot.told_to_end() or 0) > MIB


CHILD = """
import signal, sys
from pathlib import Path
from fabric.call_slot import END_SIGNAL, Slot
signal.signal(END_SIGNAL, signal.SIG_IGN)
slot = Slot(Path(sys.argv[1]))
slot.begin(1, 1, 42, 0.0, 0.0, "c1", ("task",))
print("ready", flush=True)
sys.stdin.read()
"""


def test_one_that_takes_no_notice_is_told_of_killed_and_its_page_removed(tmp_path: Path) -> None:
    killed: list[tuple[Running, End]] = []
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        watch = CallWatch(tmp_path, on_kill=lambda call, end: killed.append((call, end)))
        watch._caps._told_s[child.pid, 1] = -GRACE_S["oom"]  # told long ago
        watch.look()
        assert child.wait(10) == -signal.SIGKILL
    [(call, end)] = killed
    assert (call.input_bytes, call.what, end.outcome, end.is_kill) == (42, ("task",), "oom", True)
    for _ in range(10):
        watch.look()
    assert list(tmp_path.iterdir()) == []


# -- memory ----------------------------------------------------------------------------------------------------------------

STATUS = b"Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t 700 kB\nRssAnon:\t 300 kB\nRssFile:\t 200 kB\nRssShmem:\t 250 kB\nVmSwap:\t 10 kB\n"


def test_shared_memory_is_not_the_call_s_own() -> None:
    held = of_status(STATUS)
    assert (held.private_bytes, held.mapped_bytes, held.own_peak_bytes) == (310 * 1024, 200 * 1024, 650 * 1024)


def test_what_a_process_and_its_children_hold_is_summed_and_libraries_once() -> None:
    hold = "held = bytearray(64 << 20); held[::4096] = b'1' * len(held[::4096]); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        pids = tree(os.getpid())
        assert child.pid in pids
        alone, both = held_bytes([os.getpid()]), held_bytes([os.getpid(), child.pid])
        assert 64 * MIB < both - alone < 96 * MIB
        assert held_bytes([2**22 + 1]) == 0
        child.kill()
