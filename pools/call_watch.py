"""Keeps the calls of a machine within their caps: reads every worker's page and memory, and ends what has to end.

It costs some 50 µs a look and running call with a cap; nothing where none has one. What it kills it tells to `on_kill` first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from fabric.call_slot import Page, Running
from fabric.process_memory import held_bytes, tree
from pools.caps import Caps, End, Seen

LOOK_S = 0.1
TREE_EVERY = 5
"""Looks between two walks of a worker's whole tree, which has a thread for every core; its main thread's children are always seen."""


class CallWatch:
    """`directory`: where the workers' pages are. `on_kill(call, end)` is called before a worker is killed."""

    def __init__(self, directory: Path, on_kill: Callable[[Running, End], None]) -> None:
        self._directory = directory
        self._on_kill = on_kill
        self._pages: dict[int, Page] = {}
        self._trees: dict[int, list[int]] = {}
        self._caps = Caps()
        self._killed: dict[str, End] = {}
        self._num_looks = 0

    def look(self) -> None:
        """One look at all workers."""
        self._find_pages()
        now_s = time.monotonic()
        calls = {pid: call for pid, page in self._pages.items() if (call := page.read()) is not None}
        seen = [Seen(pid, call.number, call.cap_bytes, self._used(pid), call.deadline_s) for pid, call in calls.items()]
        for end in self._caps.look(now_s, seen):
            self._end(calls[end.pid], end)
        for pid, call in calls.items():
            # Ray tries a call again whose worker was killed: with the same request, and to the same end.
            before = self._killed.get(call.call_id)
            if before is not None:
                self._pages[pid].tell_to_end(call.number, before.used_bytes if before.outcome == "oom" else 0)
        self._num_looks += 1

    def _find_pages(self) -> None:
        with contextlib.suppress(OSError):  # no worker has come yet
            with os.scandir(self._directory) as files:
                names = {int(file.name) for file in files if file.name.isdecimal()}
            for pid in names - self._pages.keys():
                path = self._directory / str(pid)
                with contextlib.suppress(OSError, ValueError):  # being made right now
                    page = Page(path)
                    if page.is_alive():
                        self._pages[pid] = page
                    elif time.time() - path.stat().st_mtime > 1.0:
                        path.unlink()
        if self._num_looks % TREE_EVERY == 0:
            for pid in [pid for pid, page in self._pages.items() if not page.is_alive()]:
                del self._pages[pid]
                self._trees.pop(pid, None)
                (self._directory / str(pid)).unlink(missing_ok=True)

    def _used(self, pid: int) -> int:
        if self._num_looks % TREE_EVERY == 0 or pid not in self._trees:
            self._trees[pid] = tree(pid)
        return held_bytes(self._trees[pid])

    def _end(self, call: Running, end: End) -> None:
        if not end.is_kill:
            self._pages[end.pid].tell_to_end(end.number, end.used_bytes if end.outcome == "oom" else 0)
            return
        is_told = call.call_id in self._killed
        self._killed[call.call_id] = end
        if call.what and not is_told:
            self._on_kill(call, end)
        for pid in reversed(tree(end.pid)):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
