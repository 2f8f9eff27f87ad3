"""What runs in a parked process: an HTTP server that waits for its model, adopts it when told, serves it, and leaves.

The port is bound and the server warm before the adoption: what is left for the first request is to load the model and to run it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

import uvicorn
import uvloop

from fabric.errors import FabricError, ModelError
from serve_apps.parking import warm_up
from serve_apps.parking.bring_up import BroughtUp, bring_up
from serve_apps.parking.door import Door
from serve_apps.parking.messages import Activity, Adoption, Channel, HasFailed, IsLive, IsParked, Leave

log = logging.getLogger(__name__)

_BACKLOG = 1024
_TELL_EVERY_S = 0.25


def run(end: socket.socket) -> NoReturn:
    """The rest of this process's life. `end`: its channel to the owner."""
    status = 1
    try:
        random.seed()
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()  # all children would draw the same numbers
        listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        status = uvloop.run(_live(end, listener))
    except BaseException:
        log.exception("a parked process failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the interpreter's own clearing up would only cost time


async def _live(end: socket.socket, listener: socket.socket) -> int:
    channel = await Channel.over(end)
    door = Door()
    server = uvicorn.Server(_config(door))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    port: int = listener.getsockname()[1]
    await warm_up.run(door, port)
    channel.send(IsParked(port))
    told = await channel.receive()
    if not isinstance(told, Adoption):
        return 0
    model = await _adopt(told, door, channel)
    if model is None:
        return 1
    asyncio.create_task(_tell_activity(door, channel)).add_done_callback(_raise_bug)
    leave = asyncio.create_task(_await_leave(channel))
    await asyncio.wait((leave, serving), return_when=asyncio.FIRST_COMPLETED)
    if leave.done() and leave.result() is None:
        return 1  # nobody owns this process any more: what it answers has no reader
    if leave.done():
        server.config.timeout_graceful_shutdown = max(1, round(leave.result() or 0.0))
    server.should_exit = True
    await serving
    await model.close()
    return 0


def _config(door: Door) -> uvicorn.Config:
    return uvicorn.Config(
        door,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        server_header=False,
        date_header=False,
        log_level="warning",
        timeout_keep_alive=75,
    )


async def _adopt(adoption: Adoption, door: Door, channel: Channel) -> BroughtUp | None:
    _settle_in(adoption)
    try:
        model = await bring_up(adoption)
    except Exception as error:  # whatever the user's constructor raises is the request's answer
        log.exception("adoption failed model=%s version=%s", *adoption.model)
        channel.send(HasFailed(_as_told(error)))
        await channel.flush()
        return None
    door.open(model.app)
    channel.send(IsLive(model.took_ms))
    return model


def _as_told(error: Exception) -> FabricError:
    if isinstance(error, FabricError):
        return error
    return ModelError(f"the model's constructor failed: {type(error).__name__}: {error}", code="constructor_failed")


def _settle_in(adoption: Adoption) -> None:
    if adoption.log:
        written = os.open(adoption.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(written, 1)
        os.dup2(written, 2)
        os.close(written)
    sys.path[:0] = [path for path in adoption.sys_path if path not in sys.path]
    if Path(adoption.workdir).is_dir():
        os.chdir(adoption.workdir)


async def _await_leave(channel: Channel) -> float | None:
    """The seconds to drain, or None when the owner is gone."""
    while (told := await channel.receive()) is not None:
        if isinstance(told, Leave):
            return told.drain_s
    return None


async def _tell_activity(door: Door, channel: Channel) -> None:
    """Tell the owner what is in flight whenever that, or the number of requests, has changed; once in any case."""
    said = None
    opened_s = time.monotonic()
    while True:
        await asyncio.sleep(_TELL_EVERY_S)
        now = Activity(door.num_in_flight, door.num_requests)
        # The request that woke it may still be on its way.
        if now != said and (now.num_requests or time.monotonic() - opened_s > 4 * _TELL_EVERY_S):
            channel.send(now)
            said = now


def _raise_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a parked process no longer tells what it does", exc_info=task.exception())
