"""What a launch tells while it goes on: one line for each machine and step, with how long it took. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fabric.errors import FabricError
from fabric.show import duration


class Progress:
    """Lines for people. `write` is called with each, under a lock."""

    def __init__(self, machines: dict[str, str], write: Callable[[str], None]) -> None:
        self._kinds = machines
        self._write = write
        self._lock = threading.Lock()
        self._begun_s = time.monotonic()
        self._last_s = dict.fromkeys(machines, self._begun_s)
        self._width = max(len(host) for host in machines)
        self._kind_width = max(len(kind) for kind in machines.values())

    def done(self, host: str, what: str) -> None:
        now_s = time.monotonic()
        self.line(host, f"{what:<22} {duration(now_s - self._last_s[host])}")
        self._last_s[host] = now_s

    def failed(self, host: str, error: FabricError) -> None:
        lines = [f"FAILED  {error.message} [{error.code}]"]
        lines += [f"        | {line}" for line in str(error.context.get("log", "")).splitlines()]
        if error.hint:
            lines.append(f"        cure: {error.hint}")
        for line in lines:
            self.line(host, line)

    def line(self, host: str, text: str) -> None:
        with self._lock:
            self._write(f"{host:<{self._width}}  {self._kinds[host]:<{self._kind_width}}  {text}")

    def total(self) -> str:
        return duration(time.monotonic() - self._begun_s)
