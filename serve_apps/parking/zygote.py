"""The process from which parked ones are forked: everything imported, no thread, no model, no Ray.

`python -m serve_apps.parking.zygote FD`: FD is one end of a SEQPACKET socket pair. Each packet that comes in is a slot's number
with the child's own socket beside it, and a child is forked for it; `ready`, `forked` and `ended` go out as JSON. Invariants:
it has one thread whenever it forks; when its owner dies, however, it ends, and with it every child.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 1.0
PRELOADED = (
    "numpy",
    "onnxruntime",
    "orjson",
    "uvloop",
    "httptools",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.off",
    "cloudpickle",
    "serve_apps.parking.parked",
)
"""What a parked process needs until its first answer. A model's other libraries are imported when it is adopted."""
ENVIRONMENT = {
    # Both would start threads at the import, and threads do not survive a fork. onnxruntime's would upload usage data.
    "ORT_DISABLE_TELEMETRY": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def main(fd: int) -> None:
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    gc.disable()
    for module in PRELOADED:
        importlib.import_module(module)
    assert_single_thread()
    gc.collect()
    # What stands now is never collected in a child: its collector would otherwise write to, and so copy, every page.
    gc.freeze()
    channel = _serve(control)
    if channel is not None:
        from serve_apps.parking import parked

        parked.run(channel)
    os._exit(0)


def assert_single_thread() -> None:
    """Raises: SystemExit where a library has started a thread: its locks would be copied in whatever state they are."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len(names) > 1:
        raise SystemExit(f"the zygote has threads that would not survive a fork: {', '.join(names)}")


def _serve(control: socket.socket) -> socket.socket | None:
    """In the zygote: until the owner is gone, then None. In a child: at once, its channel."""
    owner, me = os.getppid(), os.getpid()
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for asked in (signal.SIGINT, signal.SIGHUP):
        signal.signal(asked, signal.SIG_IGN)  # the terminal's; the owner decides when this ends
    _tell(control, {"ready": me})
    while os.getppid() == owner:
        ready, _, _ = select.select([control.fileno(), woken], [], [], _LOOK_EVERY_S)
        if woken in ready:
            os.read(woken, 4096)
            _reap(control)
        if control.fileno() in ready:
            packet, fds, _, _ = socket.recv_fds(control, 64, 1)
            if not packet:
                return None
            if not fds:
                continue
            pid = os.fork()
            if pid == 0:
                _settle_in(me, control, woken, wake)
                return socket.socket(fileno=fds[0])
            os.close(fds[0])
            _tell(control, {"slot": int(packet), "forked": pid})
    return None


def _settle_in(zygote: int, control: socket.socket, *fds: int) -> None:
    """In the child: nothing of the zygote's stays but its memory."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    for changed in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(changed, signal.SIG_DFL)
    if os.getppid() != zygote:  # it died before it could be watched
        os._exit(128 + signal.SIGKILL)
    os.setsid()  # one model's share of the CPU is its own, and a signal to its group is not to the others
    control.close()
    for fd in fds:
        os.close(fd)
    gc.enable()


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(control, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(control: socket.socket, said: Mapping[str, Any]) -> None:
    try:
        control.send(json.dumps(said).encode())
    except OSError:  # the owner is gone: the next look says so
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
