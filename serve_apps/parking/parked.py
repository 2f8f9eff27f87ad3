"""What runs in a parked process: an HTTP server that waits for its model, adopts it when told, serves it, and leaves.

The port is bound and the server warm before the adoption: what is left for the first request is to load the model and to run it.
The main thread talks to the owner, the server's thread answers requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import sys
import time
from typing import NoReturn

from fabric.errors import FabricError, ModelError
from serve_apps.oip.rest import RestApp
from serve_apps.parking import urgency, warm_up
from serve_apps.parking.bring_up import bring_up
from serve_apps.parking.door import Door
from serve_apps.parking.link import Link
from serve_apps.parking.messages import Activity, Adoption, HasFailed, IsLive, IsParked, Leave, TokensChanged
from serve_apps.replica_host import ReplicaHost
from serve_apps.server import Server, bind

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_TELL_EVERY_S = 0.25
_STOP_S = 1.0
_URGENT_S = 1.0
"""At most so long a process that woke goes ahead of others."""


def run(end: socket.socket) -> NoReturn:
    """The rest of this process's life. `end`: its channel to the owner."""
    status = 1
    try:
        logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s", level=logging.INFO)
        _reseed()
        status = _live(Link(end))
    except BaseException:
        log.exception("a parked process failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the interpreter's own clearing up would only cost time


def _live(link: Link) -> int:
    door = Door()
    server = Server(door, bind(HOST)).start()
    warm_up.run(server, door)
    link.send(IsParked(server.port))
    usual = urgency.usual()
    told = link.receive()
    if not isinstance(told, Adoption):
        return 0
    host = _adopt(told, server, door, link, usual)
    if host is None:
        return 1
    leave = _attend(link, door, host, usual)
    if leave is None:
        return 1  # nobody owns this process any more
    _drain(leave, door)
    server.run(host.model.close()).result(_STOP_S + leave.drain_s)
    host.stop(_STOP_S)
    return 0


def _adopt(adoption: Adoption, server: Server, door: Door, link: Link, usual: urgency.Niceness) -> ReplicaHost | None:
    urgency.hurry(usual)
    begun_s = time.perf_counter()
    if adoption.log:
        _write_to(adoption.log)

    def open_server(app: RestApp) -> Server:
        door.open(app)
        return server

    try:
        model = bring_up(adoption)
        built_s = time.perf_counter()
        host = ReplicaHost(
            adoption.settings, adoption.replica_id, node_id=adoption.node_id, model=model, is_bridge=True, open_server=open_server
        )
    except Exception as error:  # whatever the user's constructor raises is the request's answer
        log.exception("adoption failed model=%s version=%s", *adoption.model)
        link.send(HasFailed(_as_told(error)))
        return None
    host.access.replace(adoption.tokens_mark, adoption.tokens)
    link.send(IsLive(host.report(), {"build": 1e3 * (built_s - begun_s), "open": 1e3 * (time.perf_counter() - built_s)}))
    return host


def _attend(link: Link, door: Door, host: ReplicaHost, usual: urgency.Niceness) -> Leave | None:
    """Tell the owner what is in flight whenever that changes, until it says leave, or is gone (None)."""
    said: Activity | None = None
    opened_s = time.monotonic()
    is_urgent = True
    while True:
        if link.has_news(_TELL_EVERY_S):
            told = link.receive()
            if told is None or isinstance(told, Leave):
                return told
            if isinstance(told, TokensChanged):
                host.access.replace(told.mark, told.tokens)
        if is_urgent and (door.num_answered or time.monotonic() - opened_s > _URGENT_S):
            urgency.calm_down(usual)
            is_urgent = False
        now = Activity(door.num_in_flight, door.num_requests)
        # The request that woke it may still be on its way.
        if now != said and (now.num_requests or time.monotonic() - opened_s > 4 * _TELL_EVERY_S):
            link.send(now)
            said = now
        with contextlib.suppress(FabricError, OSError):  # usage lines wait in their files
            host.tend()


def _drain(leave: Leave, door: Door) -> None:
    """Until nothing is in flight; but whoever routes to this process may not have heard yet that it leaves."""
    begun_s = time.monotonic()
    time.sleep(leave.linger_s)
    while door.num_in_flight and time.monotonic() - begun_s < leave.drain_s:
        time.sleep(0.02)


def _reseed() -> None:
    """All children would draw the same numbers."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _write_to(file: str) -> None:
    written = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)


def _as_told(error: Exception) -> FabricError:
    if isinstance(error, FabricError):
        return error
    return ModelError(f"the model's constructor failed: {type(error).__name__}: {error}", code="constructor_failed")
