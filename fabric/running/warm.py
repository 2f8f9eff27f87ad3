"""Keeps children ready, imports done, so that a call starts in milliseconds instead of a Python start.

Invariants: a child runs one call and ends; a spare that is taken is replaced at once; `close` ends the idle ones.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

from fabric.running.child import Call
from fabric.running.process import Process

CHILD = "fabric.running.child"


class WarmChild:
    """One child that waits; `run` gives it its call."""

    def __init__(self) -> None:
        read, write = os.pipe()
        try:
            command = [sys.executable, "-m", CHILD, str(read)]
            self.process = Process(command, cwd=Path("/"), env=os.environ, output=subprocess.DEVNULL, pass_fds=[read])
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        self._pipe = write

    @property
    def is_alive(self) -> bool:
        return self.process.wait(0) is None

    def run(self, call: Call) -> Process:
        """Raises: OSError where the child has died."""
        try:
            body = call.as_line()
            while body:
                body = body[os.write(self._pipe, body) :]
        finally:
            os.close(self._pipe)
        return self.process

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._pipe)
        self.process.kill()
        self.process.wait(5.0)


class WarmPool:
    """`num_spares` children that wait; more calls than spares start their own."""

    def __init__(self, num_spares: int) -> None:
        self._num_spares = num_spares
        self._spares: list[WarmChild] = []
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._is_closed = False
        if num_spares:
            self._wanted.set()
            threading.Thread(target=self._refill, name="warm-children", daemon=True).start()

    def run(self, call: Call) -> Process:
        """Start a call in a waiting child, or in a new one where none waits."""
        while True:
            with self._lock:
                child = self._spares.pop(0) if self._spares else None
            if child is None:
                return WarmChild().run(call)
            if child.is_alive:
                process = child.run(call)
                self._wanted.set()
                return process
            child.discard()

    def num_waiting(self) -> int:
        with self._lock:
            return len(self._spares)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._spares = self._spares, []
        self._wanted.set()
        for child in idle:
            child.discard()

    def _refill(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while self.num_waiting() < self._num_spares:
                child = WarmChild()
                with self._lock:
                    if not self._is_closed:
                        self._spares.append(child)
                        continue
                child.discard()
                return
