"""A peer that runs: started, frozen while others are measured, ended with everything that it started.

Its processes are found by a mark in their environment, which also those carry that have left their parent (Ray's workers, HAProxy).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType

import psutil
from priority import raise_priority

from peers.recipe import Command, Place, Recipe
from peers.venv import python_of

_MARK = "TIERFABRIC_BENCH_SERVER"
_START_TIMEOUT_S = 180
_POLL_S = 0.2


class NotStarted(Exception):
    """A peer that did not answer in time, or ended; its message holds the end of its log."""


class Server:
    """One peer, installed by `install`, running between `start` and `stop`. Also a context manager that stops."""

    def __init__(self, recipe: Recipe) -> None:
        self.name = recipe.name
        self.url = ""
        self.grpc_target = ""
        self._recipe = recipe
        self._python = Path()
        self._mark = uuid.uuid4().hex
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log_path(self) -> Path:
        return Path(self._folder.name) / "server.log"

    def log_end(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])

    def install(self, venvs: Path) -> None:
        """Raises: `NotInstalled`."""
        self._python = python_of(self.name, self._recipe.requirements, venvs)

    def start(self) -> str:
        """The URL that takes the echo's body, ready for requests. Raises: `NotStarted`."""
        workdir = Path(self._folder.name) / "work"
        workdir.mkdir()
        place = Place(self._python, workdir, *_free_ports(3))
        command = self._recipe.command(place)
        env = {**({} if command.is_bare else os.environ), **command.env, _MARK: self._mark}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command.argv, cwd=workdir, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self._wait_ready(command, place)
        self.url = f"http://127.0.0.1:{place.http_port}{command.path}"
        self.grpc_target = f"127.0.0.1:{place.grpc_port}" if command.with_grpc else ""
        return self.url

    def stop(self) -> None:
        """End every process of this peer: asked first, then killed. May be called twice."""
        if self._process is not None:
            self.thaw()
            # The first process alone is asked, so that it can end its own in order.
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            while self._signal(signal.SIGKILL):
                time.sleep(_POLL_S)
            self._process.wait()
            self._process = None
        self._folder.cleanup()

    def freeze(self) -> None:
        """Take this peer off the processors, so that what it does when idle is not in another's figures."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def rss_bytes(self) -> dict[str, int]:
        """Resident memory of each of its processes, by `pid name`."""
        return {f"{process.pid} {process.name()}": process.memory_info().rss for process in self.processes()}

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == self._mark:
                    found.append(process)
        return found

    def _signal(self, number: signal.Signals) -> int:
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return len(processes)

    def _wait_ready(self, command: Command, place: Place) -> None:
        assert self._process is not None
        end_s = time.monotonic() + _START_TIMEOUT_S
        is_ready = False
        while not is_ready:
            is_ready = _answers(place.http_port, command.ready_path)
            # Those that have a session of their own do not inherit it in effect.
            raise_priority(os.getpriority(os.PRIO_PROCESS, 0), [process.pid for process in self.processes()])
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise NotStarted(f"{self.name} does not answer:\n{self.log_end()}")
            time.sleep(_POLL_S)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
