"""The owner's handle on its zygote: starts it, asks it for children, hears of their ends.

What it hears becomes facts for the lot's book. It belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from serve_apps.parking.facts import Ended, Event, SlotId, ZygoteLost, ZygoteReady
from serve_apps.parking.zygote import ENVIRONMENT

log = logging.getLogger(__name__)

_PACKET_BYTES = 4096


class ZygoteProcess:
    """One zygote at a time. `log_file` takes what it and its children print; `hear` is called on the event loop."""

    def __init__(self, log_file: Path, hear: Callable[[Event], None]) -> None:
        self._log_file = log_file
        self._hear = hear
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pids: dict[SlotId, int] = {}

    @property
    def pids(self) -> dict[SlotId, int]:
        """The children that live."""
        return dict(self._pids)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Returns at once; `ZygoteReady` or `ZygoteLost` follows. Raises: OSError."""
        own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.setblocking(False)
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        try:
            with self._log_file.open("ab") as written:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "serve_apps.parking.zygote", str(its.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
                    pass_fds=(its.fileno(),),
                    start_new_session=True,
                )
        except BaseException:
            own.close()
            raise
        finally:
            its.close()
        self._control = own
        asyncio.get_running_loop().add_reader(own.fileno(), self._read)

    def fork(self, slot: SlotId) -> socket.socket:
        """Ask for a child; returns the owner's end of its channel. Raises: OSError where the zygote is gone."""
        if self._control is None:
            raise BrokenPipeError("no zygote")
        own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            socket.send_fds(self._control, [str(slot).encode()], [its.fileno()])
        except BaseException:
            own.close()
            raise
        finally:
            its.close()
        return own

    def kill(self, slot: SlotId) -> None:
        if pid := self._pids.get(slot):
            # The zygote has not reaped it: the pid is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it and all its children. Waits for the zygote alone, which has nothing to finish."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _read(self) -> None:
        while self._control is not None:
            try:
                packet = self._control.recv(_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose()
                return
            said = json.loads(packet)
            if "ready" in said:
                self._hear(ZygoteReady())
            elif "forked" in said:
                self._pids[SlotId(said["slot"])] = said["forked"]
            else:
                self._end(said["ended"], said["code"])

    def _end(self, pid: int, code: int) -> None:
        for slot in [slot for slot, each in self._pids.items() if each == pid]:
            del self._pids[slot]
            self._hear(Ended(slot, reason(code)))

    def _lose(self) -> None:
        log.error("zygote lost pid=%s log=%s", self.pid, self._log_file)
        self.stop()
        slots, self._pids = list(self._pids), {}
        self._hear(ZygoteLost())  # first: nothing is to be forked in the place of its children
        for slot in slots:
            self._hear(Ended(slot, "the process from which it was forked ended"))


def reason(code: int) -> str:
    """`signal 11 (Segmentation fault)`, `exit status 1`."""
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"
