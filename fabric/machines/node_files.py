"""Where a machine keeps what concerns its node, and what stands in these files. One node per user and machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fabric.errors import RejectedError
from fabric.machines.spec import NodeSpec, read_spec

State = Literal["starting", "up", "down", "stopped"]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What the watchdog last wrote. `restarts`: how often it had to start Ray again. `since_s`: wall clock."""

    state: State
    cluster: str
    instance_id: str
    digest: str
    restarts: int = 0
    since_s: float = 0.0
    detail: str = ""


@contextlib.contextmanager
def one_launch(lock: Path, what: str) -> Iterator[None]:
    """One at a time, by a lock on a file. Raises: RejectedError (`launch_running`)."""
    with lock.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = f"another launch of {what} is under way"
            raise RejectedError(message, code="launch_running", hint="wait for it to end", retryable=True) from None
        yield


class NodeFiles:
    """The directory `~/.tierfabric/node`."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path("~/.tierfabric/node").expanduser()
        self.spec = self.root / "spec.json"
        self.status = self.root / "status.json"
        self.ray_log = self.root / "ray.log"
        self.watchdog_log = self.root / "watchdog.log"
        self._alive = self.root / "watchdog.lock"
        self._launch = self.root / "launch.lock"

    def prepare(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read_spec(self) -> NodeSpec:
        """Raises: ConfigError, OSError."""
        return read_spec(self.spec.read_text(encoding="utf-8"))

    def write_spec(self, spec: NodeSpec) -> None:
        _replace(self.spec, spec.to_json())

    def read_status(self) -> NodeStatus | None:
        """None where nothing was ever started, or the file is not readable."""
        try:
            return NodeStatus(**json.loads(self.status.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_status(self, state: State, spec: NodeSpec, restarts: int, detail: str = "") -> None:
        status = NodeStatus(state, spec.cluster, spec.instance_id, spec.digest(), restarts, time.time(), detail)
        _replace(self.status, json.dumps(asdict(status)))

    def write_run(self, script: str) -> None:
        """`~/.tierfabric/run COMMAND`: a command of Ray's or the fabric's, with this cluster's address and token."""
        run = self.root.parent / "run"
        run.write_text(script, encoding="utf-8")
        run.chmod(0o700)

    def watchdog_pid(self) -> int | None:
        """The watchdog that is alive, by the lock that it holds; None where there is none."""
        try:
            with self._alive.open("r+", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return int(file.read() or 0) or None
        except (OSError, ValueError):
            pass
        return None

    def hold(self) -> int:
        """Become this machine's watchdog: the lock is held as long as the returned descriptor is open. Raises: OSError."""
        descriptor = os.open(self._alive, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor

    @contextlib.contextmanager
    def launching(self) -> Iterator[None]:
        """One launch of a machine at a time. Raises: RejectedError (`launch_running`)."""
        self.prepare()
        with one_launch(self._launch, "this machine"):
            yield

    def tail(self, count: int = 12) -> str:
        """The last lines of Ray's own log."""
        try:
            lines = self.ray_log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join([line for line in lines if line.strip()][-count:])


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(path)
