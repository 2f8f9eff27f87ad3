"""Where the cold start is measured: behind a small front of the benchmark's own, or behind the REST port of a whole fabric."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cold_start_world import BODY, PATH, WIDTH, holders
from priority import raise_priority

NUM_CPUS = os.cpu_count() or 1
_HERE = Path(__file__).parent
_UNTIL_S = 120.0
_LOOK_EVERY_S = 0.25
_MARK, _RUN = "COLD_START_RUN", uuid.uuid4().hex
_WARM_UP_S = 0.6
"""A process that has just been forked warms itself up."""


class Place:
    """One caller, with one connection. `log`: of the parked processes, which tells the zygote; `weights`: the prepared folder."""

    def __init__(self, port: int, log: Path) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_UNTIL_S)
        self._log = log
        self.weights = Path()

    def first_ms(self) -> float:
        """What the request takes. Raises: SystemExit for any answer but the model's."""
        started_s = time.perf_counter()
        status, content = self._ask("POST", PATH, BODY)
        took_ms = 1e3 * (time.perf_counter() - started_s)
        if status != 200 or len(json.loads(content)["outputs"][0]["data"]) != WIDTH:
            raise SystemExit(f"{status}: {content[:300]!r}")
        return took_ms

    def until_zero(self) -> list[int]:
        """Wait until nobody holds the model and a process is parked for each CPU; their pids."""
        deadline_s = time.monotonic() + _UNTIL_S
        while holders(self.weights) or len(self.parked()) != NUM_CPUS:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"not zero: {holders(self.weights)} hold the model, {self.parked()} are parked")
            time.sleep(0.05)
        time.sleep(_WARM_UP_S)
        return self.parked()

    def parked(self) -> list[int]:
        """The zygote's children."""
        family = self._family()
        return [pid for pid, parent in family.items() if parent in family]

    def zygote(self) -> int:
        family = self._family()
        return next(pid for pid, parent in family.items() if parent not in family)

    def _family(self) -> dict[int, int]:
        """The zygote and its children: their parents by pid. They write to one log, and a fork keeps the command line."""
        family: dict[int, int] = {}
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if (process / "fd" / "1").readlink() == self._log and b"parking.zygote" in (process / "cmdline").read_bytes():
                    family[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        return family

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


class Fronted(Place):
    """The model leaves when it is told to."""

    def until_zero(self) -> list[int]:
        self._ask("POST", "/zero")
        return super().until_zero()


@contextlib.contextmanager
def front(model: Path, folder: Path) -> Iterator[Place]:
    # In a process of its own: this one must hold nothing of the model.
    code = "import sys, pathlib; from serve_apps.runtimes.prepared import prepare; print(prepare(*map(pathlib.Path, sys.argv[1:])))"
    done = subprocess.run([sys.executable, "-c", code, str(model), str(folder / "cache")], capture_output=True, text=True, check=True)
    prepared, state = Path(done.stdout.strip().splitlines()[-1]), folder / "state"
    state.mkdir(exist_ok=True)
    with _running([str(_HERE / "cold_start_front.py"), str(prepared), str(state), str(NUM_CPUS)], {}, state / "front.log") as process:
        place = Fronted(int(_line(process, state / "front.log")), state / "parked.log")
        place.weights = prepared
        yield place


@contextlib.contextmanager
def fabric(model: Path, _folder: Path) -> Iterator[Place]:
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="cold-start-fabric-") as state:
        log = Path(state, "benchmark.log")
        env = {"FABRIC_STATE_DIR": state, "FABRIC_DASHBOARD__ENABLED": "false", "FABRIC_SERVING__PARKED": str(NUM_CPUS)}
        with _running([str(_HERE / "cold_start_fabric.py"), str(port), str(model)], env, log) as process:
            with ahead():
                while _line(process, log) != "deployed":
                    pass  # what Ray and the fabric say meanwhile
            place = Place(port, Path(state, "serving", "ingress", "parked.log"))
            place.weights = Path(state, "serving", "cache")
            yield place


@contextlib.contextmanager
def _running(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    with log.open("wb") as written:
        env = {**os.environ, **env, _MARK: _RUN}
        process = subprocess.Popen([sys.executable, *command], env=env, stdout=subprocess.PIPE, stderr=written, text=True)
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_UNTIL_S)
        process.stdout.close()


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """Meanwhile what this benchmark starts gets the benchmark's own niceness, in whatever session it is (`--nice`)."""
    nice, is_over = os.getpriority(os.PRIO_PROCESS, 0), threading.Event()

    def look() -> None:
        while nice and not is_over.wait(_LOOK_EVERY_S):
            raise_priority(nice, _started_here())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        is_over.set()
        looking.join()


def _started_here() -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if _RUN.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"it does not start:\n{log.read_text()[-3000:]}")
    return line.strip()


def _free_port() -> int:
    """Free, and the one after it, too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port


def ray_serve_ms(model: Path, num_rounds: int) -> list[float]:
    """What plain Ray Serve takes, each round."""
    command: list[Any] = [sys.executable, _HERE / "cold_start_ray.py", model, str(num_rounds)]
    with ahead():
        done = subprocess.run(command, env={**os.environ, _MARK: _RUN}, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    # Ray says things of its own on standard output as well.
    took_ms: list[float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[") and line.endswith("]")))
    return took_ms
