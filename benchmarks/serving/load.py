"""Many connections at once, from a process of its own: `run_load` starts it and returns what it saw.

Closed: each connection sends as soon as it is answered. Paced: requests are due at a steady rate, and a latency counts from when the
request was due, so that a server that stalls is charged for those that had to wait. The generator is uvloop with httptools' parser; what it
takes of a processor is in its result, and is the same code for every server.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Load:
    """`cpu_frac`: of one processor, taken by the generator. `errors`: answers other than 200, and connections lost."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_frac: float


def run_load(url: str, body: bytes, *, seconds: float, rate: float = 0.0, connections: int = CONNECTIONS) -> Load:
    """`rate` in requests per second; 0: closed. The first fifth of the time warms up and is not counted."""
    argv = [sys.executable, str(Path(__file__)), url, f"--seconds={seconds}", f"--rate={rate}", f"--connections={connections}"]
    done = subprocess.run(argv, input=body, capture_output=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    return Load(**json.loads(done.stdout))


class _Run:
    """What all connections share. `due_s`: when the requests that no connection has taken yet were due."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.free: collections.deque[_Connection] = collections.deque()
        self.due_s: collections.deque[float] = collections.deque()
        self.took_s: list[float] = []
        self.errors = 0
        self.is_paced = False
        self.is_over = False

    def next(self, connection: _Connection, now_s: float) -> None:
        if self.is_over:
            return
        if not self.is_paced:
            connection.send(now_s)
        elif self.due_s:
            connection.send(self.due_s.popleft())
        else:
            self.free.append(connection)

    async def pace(self, rate: float, end_s: float) -> None:
        started_s, sent = time.perf_counter(), 0
        while (now_s := time.perf_counter()) < end_s:
            while (due_s := started_s + sent / rate) <= now_s:
                sent += 1
                if self.free:
                    self.free.popleft().send(due_s)
                else:
                    self.due_s.append(due_s)
            await asyncio.sleep(max(0.0005, due_s - now_s))


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._due_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses
        self._parser = httptools.HttpResponseParser(self)
        self._run.next(self, time.perf_counter())

    def send(self, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now_s = time.perf_counter()
        if self._parser.get_status_code() == 200:
            self._run.took_s.append(now_s - self._due_s)
        else:
            self._run.errors += 1
        self._run.next(self, now_s)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.is_over:
            self._run.errors += 1


async def _generate(url: str, body: bytes, seconds: float, rate: float, connections: int) -> Load:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    run = _Run(head.encode() + body)
    run.is_paced = rate > 0
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(run), parts.hostname, parts.port) for _ in range(connections)]
    pacing = asyncio.create_task(run.pace(rate, time.perf_counter() + seconds)) if run.is_paced else None
    await asyncio.sleep(seconds / 5)
    run.took_s, run.errors = [], 0
    started_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.sleep(0.8 * seconds)
    lasted_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    run.is_over = True
    waiting = [time.perf_counter() - due_s for due_s in run.due_s]
    if pacing is not None:
        pacing.cancel()
    for transport, _ in made:
        transport.close()
    # Requests that are still waiting for a connection have waited at least this long.
    took_ms = sorted(1e3 * each for each in [*run.took_s, *waiting]) or [float("inf")]
    return Load(len(run.took_s) / lasted_s, _quantile(took_ms, 0.5), _quantile(took_ms, 0.99), run.errors, cpu_s / lasted_s)


def _quantile(ordered: list[float], frac: float) -> float:
    return ordered[min(len(ordered) - 1, int(frac * len(ordered)))]


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for name, kind in (("seconds", float), ("rate", float), ("connections", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    args = parser.parse_args()
    body = sys.stdin.buffer.read()
    print(json.dumps(asdict(uvloop.run(_generate(args.url, body, args.seconds, args.rate, args.connections)))))


if __name__ == "__main__":
    _main()
