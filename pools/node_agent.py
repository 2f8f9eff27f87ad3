"""The node agent: one per machine, measures its use, tells the pools of that machine's nodes, and keeps calls within their caps.

It costs under 1 % of one core: one reading of psutil and NVML every `PERIOD_S`, and what `pools.call_watch` says.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from fabric import ray_io
from fabric.call_slot import CALLS_DIRECTORY, Running
from fabric.errors import FabricError
from fabric.types import NodeUsage
from pools.call_watch import LOOK_S, CallWatch
from pools.caps import End
from pools.telemetry import read_usage

PERIOD_S = 2.0
TELL_TIMEOUT_S = 2.0
_log = logging.getLogger(__name__)


class NodeAgent:
    """Undecorated actor class, named `agent-<host>`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._tiers: set[str] = set()
        self._pools: dict[str, Any] = {}
        read_usage()  # the first reading of CPU use has no period behind it
        threading.Thread(target=self._loop, name="measure", daemon=True).start()
        threading.Thread(target=self._keep_caps, name="caps", daemon=True).start()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return f"agent-{self._host}"

    def watch(self, tier: str) -> None:
        """Report to this tier's pool as well. Idempotent."""
        self._tiers.add(tier)

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(PERIOD_S)
            usage = read_usage()
            for tier in tuple(self._tiers):
                self._report(tier, usage)

    def _report(self, tier: str, usage: NodeUsage) -> None:
        try:
            if tier not in self._pools:
                self._pools[tier] = ray_io.actor(f"pool-{tier}")
            self._pools[tier].report_usage.remote(self._host, usage)
        except FabricError as error:
            self._pools.pop(tier, None)
            _log.warning("report tier=%s failed: %s", tier, error)

    def _keep_caps(self) -> None:
        watch = CallWatch(ray_io.session_directory() / CALLS_DIRECTORY, _tell_of_kill)
        pause = threading.Event()
        while True:
            pause.wait(LOOK_S)
            try:
                watch.look()
            except Exception as error:  # one odd page must not leave all calls without caps
                _log.warning("look at calls failed: %s", ray_io.describe_exception(error))


def _tell_of_kill(call: Running, end: End) -> None:
    """The profiler learns what its worker can no longer tell. It is waited for: whoever asks after the kill finds it."""
    call_id, (task, variant, user, queue, node_id, flavor) = call.call_id, call.what
    wall_s = time.monotonic() - call.started_s
    row = (call_id, task, variant, wall_s, 0.0, end.used_bytes, end.outcome, call.input_bytes, user, queue, call.asked_bytes, 0, None, None)
    _log.warning("kill call=%s task=%s outcome=%s asked=%d used=%d", call_id, task, end.outcome, call.asked_bytes, end.used_bytes)
    try:
        profiler = ray_io.actor("profiler")
        told = [profiler.record.remote(node_id, flavor, [row])]
        if end.outcome == "oom":
            told.append(profiler.remember_oom.remote(task, variant, call.asked_bytes, end.used_bytes, call.input_bytes))
        ray_io.ask(told, timeout_s=TELL_TIMEOUT_S)
    except FabricError as error:
        _log.warning("the profiler was not told of call=%s: %s", call_id, error)
