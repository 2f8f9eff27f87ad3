"""The measured burner: replicas that burn what they are sent, and a driver that sends them a recorded load.

The driver sends tickets (seconds of CPU, over UDP on this machine) to the replicas in turn; a replica burns a ticket in a thread, by
its thread's own CPU clock. Five times a second each replica says how much CPU its process has used: what is counted is measured, not
what was sent. A replica is there from the start of its process; it answers from its first word until its last, and burns what it has
been sent before it goes, as replicas behind the ingress do.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psutil
from autoscale_score import Second

from serve_apps.autoscaling.meter import ReplicaMeter

NUM_CPUS = 0.1
TICKET_S = 0.005
HELLO_S = 0.2
SILENT_S = 0.7
_TICK_S = 0.02
_LAST_S = 0.3
_WORD = struct.Struct("<iidd")
"""Process, port (0: it leaves), CPU seconds used, wall clock of its birth."""


class Burner:
    """Undecorated Serve deployment."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._is_leaving = False
        self._meter = ReplicaMeter(NUM_CPUS, now_s=time.monotonic(), num_ongoing=lambda: 0)
        for target in (self._burn, self._hello):
            threading.Thread(target=target, daemon=True).start()

    def _burn(self) -> None:
        while True:
            end_s = float(self._socket.recv(64)) + time.thread_time()
            while time.thread_time() < end_s:
                sum(range(200))

    def _hello(self) -> None:
        born_s, due_s, port = psutil.Process().create_time(), time.monotonic(), self._socket.getsockname()[1]
        while True:
            has_said = self._is_leaving
            self._socket.sendto(_WORD.pack(os.getpid(), 0 if has_said else port, time.process_time(), born_s), self._to)
            due_s += HELLO_S
            while time.monotonic() < due_s and self._is_leaving is has_said:
                time.sleep(_TICK_S)

    def __del__(self) -> None:
        """Serve's hook for a graceful end."""
        self._is_leaving = True
        time.sleep(_LAST_S)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._meter.sample(time.monotonic())

    def __call__(self) -> int:
        return os.getpid()


@dataclass(slots=True)
class _Seen:
    port: int
    born_s: float
    first_s: float
    heard: list[tuple[float, float]] = field(default_factory=list)
    """(time, CPU seconds), oldest first."""
    has_left: bool = False


class Driver:
    """Plays a load to whatever replicas there are and keeps what they used."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.5)
        self.port = int(self._socket.getsockname()[1])
        self._seen: dict[int, _Seen] = {}
        self._is_over = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def close(self) -> None:
        self._is_over = True
        self._listener.join(timeout=2)
        self._socket.close()

    def num_alive(self) -> int:
        return len(self._alive(time.time()))

    def play(self, load: Sequence[float]) -> float:
        """Send the load in real time; returns when it began (wall clock)."""
        began_s, owed_s, turn, last_s = time.time(), 0.0, 0, time.time()
        while (now_s := time.time()) < began_s + len(load):
            owed_s += load[min(len(load) - 1, int(now_s - began_s))] * NUM_CPUS * (now_s - last_s)
            last_s, alive = now_s, self._alive(now_s)
            while owed_s >= TICKET_S and alive:
                owed_s, turn = owed_s - TICKET_S, turn + 1
                self._socket.sendto(str(TICKET_S).encode(), ("127.0.0.1", alive[turn % len(alive)].port))
            time.sleep(_TICK_S)
        return began_s

    def idle_use(self, seconds: int) -> float:
        """What replicas that have nothing to do use, in percent: the lowest of the given seconds."""
        began_s = self.play([0.0] * seconds)
        return min(one.used for one in self.seconds([0.0] * seconds, began_s))

    def seconds(self, load: Sequence[float], began_s: float) -> list[Second]:
        """What was measured in each second: use in percent of the replicas that answered, and how many there were from birth on."""
        return [self._second(value, began_s + at) for at, value in enumerate(load)]

    def _second(self, load: float, start_s: float) -> Second:
        used_s = alive_s = held_s = 0.0
        for one in self._seen.values():
            end_s = one.heard[-1][0]
            alive_s += _overlap(start_s, one.first_s, end_s)
            held_s += _overlap(start_s, one.born_s, end_s)
            used_s += max(0.0, _cpu_at(one.heard, start_s + 1.0) - _cpu_at(one.heard, start_s))
        return Second(load, held_s, 100.0 * used_s / (alive_s * NUM_CPUS) if alive_s else 0.0)

    def _alive(self, now_s: float) -> list[_Seen]:
        return sorted(
            (one for one in list(self._seen.values()) if not one.has_left and now_s - one.heard[-1][0] < SILENT_S), key=lambda one: one.port
        )

    def _listen(self) -> None:
        while not self._is_over:
            try:
                pid, port, cpu_s, born_s = _WORD.unpack(self._socket.recv(512))
            except TimeoutError:
                continue
            now_s = time.time()
            one = self._seen.get(pid)
            if one is None:
                one = self._seen[pid] = _Seen(port, born_s, now_s, [(now_s, cpu_s)])
            one.heard.append((now_s, cpu_s))
            one.has_left = not port


def _overlap(start_s: float, first_s: float, last_s: float) -> float:
    return max(0.0, min(start_s + 1.0, last_s) - max(start_s, first_s))


def _cpu_at(heard: Iterable[tuple[float, float]], at_s: float) -> float:
    before: tuple[float, float] | None = None
    for point_s, cpu_s in heard:
        if point_s >= at_s:
            if before is None:
                return cpu_s
            return before[1] + (at_s - before[0]) / (point_s - before[0]) * (cpu_s - before[1]) if point_s > before[0] else cpu_s
        before = (point_s, cpu_s)
    return before[1] if before else 0.0
