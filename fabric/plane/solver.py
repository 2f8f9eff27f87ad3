"""The optimiser in a process of its own, so that solving never holds up the scheduler or the API.

Problems go in and plans come out over pipes, one at a time. A solver that fails or dies costs one plan: what runs then
keeps running, and what waits goes in order.
"""

from __future__ import annotations

import logging
import pickle
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import IO

from fabric.scheduler.problem import Plan, Problem

_LENGTH = struct.Struct("!Q")
_log = logging.getLogger(__name__)


class Solver:
    """`on_plan(plan, took_s)` is called from this solver's thread for every problem that was asked; `took_s`: see `PlanSolved`."""

    def __init__(self, on_plan: Callable[[Plan, float], None]) -> None:
        self._on_plan = on_plan
        self._problems: SimpleQueue[Problem | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._loop, name="solver", daemon=True)
        self._thread.start()

    def ask(self, problem: Problem) -> None:
        self._problems.put(problem)

    def close(self) -> None:
        self._problems.put(None)
        self._thread.join()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _loop(self) -> None:
        while (problem := self._problems.get()) is not None:
            took_s = 0.0
            try:
                plan, took_s = self._solve(problem)
            except Exception as error:  # a plan less; the next problem gets a fresh process
                _log.warning("solve jobs=%d failed: %r", len(problem.jobs), error)
                self._process = None
                plan = kept(problem)
            self._on_plan(plan, took_s)

    def _solve(self, problem: Problem) -> tuple[Plan, float]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        _send(self._process.stdin, pickle.dumps(problem))
        plan, took_s = pickle.loads(_receive(self._process.stdout))  # written by our own child only
        if isinstance(plan, BaseException):
            raise plan
        assert isinstance(plan, Plan)
        return plan, took_s


def kept(problem: Problem) -> Plan:
    """The plan that changes nothing: what runs stays, what waits starts in its order as room appears."""
    run = {job.job_id: job.held for job in problem.jobs if job.held is not None}
    order = [(job.job_id, job.options) for job in problem.jobs if job.held is None]
    return Plan(problem.now_s, run, order)


def _send(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("the solver ended")
    return pipe.read(_LENGTH.unpack(head)[0])


def main() -> None:
    """Answer problems from stdin until it closes, each with the time that it took; the first brings its planner in, and says 0."""
    from fabric.scheduler.optimise import solve

    is_first = True
    while True:
        try:
            problem = pickle.loads(_receive(sys.stdin.buffer))
        except EOFError:
            return
        began_s = time.process_time()
        try:
            answer: object = solve(problem)
        except Exception as error:
            answer = RuntimeError(repr(error))
        took_s = 0.0 if is_first else time.process_time() - began_s
        is_first = False
        _send(sys.stdout.buffer, pickle.dumps((answer, took_s)))


if __name__ == "__main__":
    main()
