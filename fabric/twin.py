"""The laptop twin: one real Ray cluster on this machine, a raylet per tier with labels and logical accelerators.

It runs as a process of its own (`fabric.twin_process`), so that it outlives the command that started it; here it is
described, started, found and ended. Figures from
a twin are always marked as such: every node carries its slow-down factor in a label, 1 included.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fabric import auth
from fabric.config import FabricConfig, set_ray_environment
from fabric.errors import ConfigError, RuntimeFault
from fabric.types import FLAVOR_LABEL, SLOWDOWN_LABEL, TIER_LABEL, Flavor

PROCESS = "fabric.twin_process"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
MIN_STORE_BYTES = 80 * 2**20
# A SIGKILLed raylet is noticed within about 5 s instead of Ray's 18 s; a busy laptop is still given 15 s to answer.
_HEALTH = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "5000", "RAY_health_check_failure_threshold": "3"}


@dataclass(frozen=True, slots=True)
class TwinState:
    """What the running twin says of itself, in `twin.json` of the state directory."""

    pid: int
    address: str
    started_s: float
    dashboard: str
    num_nodes: int


def state_file(config: FabricConfig) -> Path:
    return config.state_path / "twin.json"


def running(config: FabricConfig) -> TwinState | None:
    """The twin that runs with this state directory, or None."""
    try:
        state = TwinState(**json.loads(state_file(config).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.address and _is_twin(state.pid) else None


def start(config: FabricConfig, catalogue: Mapping[str, Flavor], *, is_owned: bool) -> TwinState:
    """Start a twin and wait until its head answers. `is_owned`: it ends with this process.

    Raises: RuntimeFault with the last lines of its log.
    """
    config.state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (config.state_path / "twin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two that start at once, the second finds the first's
        return running(config) or _start(config, catalogue, is_owned=is_owned)


def _start(config: FabricConfig, catalogue: Mapping[str, Flavor], *, is_owned: bool) -> TwinState:
    auth.make_token()
    set_ray_environment()
    state_file(config).unlink(missing_ok=True)
    log = config.state_path / "twin.log"
    spec = {"nodes": node_specs(config, catalogue), "state": str(state_file(config)), "is_owned": is_owned}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", PROCESS, json.dumps(spec)],
            stdin=subprocess.PIPE if is_owned else subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"RAY_AUTH_MODE": "token", **os.environ, **_HEALTH},
        )
    _OWNED.append(process)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if state := running(config):
            return state
        time.sleep(0.02)
    process.terminate()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
    raise RuntimeFault("the twin did not start: " + " | ".join(lines), code="twin_failed", hint=f"the whole log: {log}; `fabric doctor`")


_OWNED: list[subprocess.Popen[bytes]] = []
"""Kept so that the pipe to an owned twin stays open as long as this process lives."""


def stop(config: FabricConfig) -> bool:
    """End the running twin and all of its processes; False where none runs."""
    state = running(config)
    if state is None:
        return False
    process = psutil.Process(state.pid)
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for straggler in alive:
        straggler.kill()
    psutil.wait_procs(alive, timeout=5)
    state_file(config).unlink(missing_ok=True)
    return True


def stop_owned() -> None:
    """End the twins that this process started for itself."""
    while _OWNED:
        process = _OWNED.pop()
        if process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_TIMEOUT_S)


def node_specs(config: FabricConfig, catalogue: Mapping[str, Flavor]) -> list[dict[str, Any]]:
    """One node per twin pool, the head first: the one with the most CPUs.

    Each is a set of arguments for `ray.cluster_utils.Cluster.add_node`.
    """
    from pools.flavors import lookup

    tiers = [tier for tier in config.tier_names if tier in config.twin]
    memory = psutil.virtual_memory().total
    store = max(MIN_STORE_BYTES, min(2 * 2**30, psutil.disk_usage("/dev/shm").total // 4, memory // 12)) if tiers else 0
    specs = []
    for tier in reversed(tiers):
        pool = config.twin[tier]
        flavor = lookup(catalogue, pool.flavor)
        cpus = pool.cpus or (float(max(2, os.cpu_count() or 2)) if flavor.is_cpu else 1.0)
        spec: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": pool.units * flavor.units if flavor.resource == "GPU" else 0,
            "memory": int(memory * 0.7 / len(tiers)),
            "object_store_memory": store,
            "labels": {TIER_LABEL: tier, FLAVOR_LABEL: flavor.name, SLOWDOWN_LABEL: f"{pool.slowdown:g}"},
        }
        if flavor.resource not in ("CPU", "GPU"):
            spec["resources"] = {flavor.resource: pool.units * flavor.units}
        specs.append(spec)
    if not specs:
        raise ConfigError("no tier has a twin pool", hint="give one under `twin:`, for example {edge: {flavor: cpu}}")
    specs.sort(key=lambda spec: -spec["num_cpus"])
    specs[0]["include_dashboard"] = config.dashboard.enabled
    specs[0]["dashboard_port"] = config.dashboard.port
    return specs


def _is_twin(pid: int) -> bool:
    try:
        return PROCESS in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
