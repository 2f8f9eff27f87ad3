"""Gathers the facts of this machine. Nothing here judges, nothing here starts Ray, and no reading that fails ends it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from fabric import auth, twin
from fabric.config import FabricConfig
from fabric.doctor.machine import Disk, Listener, MachineFacts
from fabric.journal.corruption import set_aside_files
from fabric.twin import TwinState
from fabric.types import Device, Flavor
from pools.discovery import discover

_OURS = ("gcs_server", "raylet", "ray::", "fabric.twin_process", "ray/dashboard", "haproxy", "serve")


def look(config: FabricConfig, catalogue: dict[str, Flavor], declared: list[Device]) -> MachineFacts:
    """Look at this machine. The token and the state directory are read as they are, before anything mends them."""
    token = Path("~/.ray/auth_token").expanduser()
    token_mode, state_mode = _mode(token), _mode(config.state_path)
    found = discover(catalogue, declared)
    file, state = _twin_file(config)
    ports = {6379: "a Ray head (`ray start --head`)", config.dashboard.port: "the dashboard", 8000: "Ray Serve"}
    memory = psutil.virtual_memory()
    return MachineFacts(
        python=sys.version_info[:3],
        ray=_version("ray"),
        ray_problem=_import_problem(),
        ports=ports,
        listeners=_listeners(ports),
        shm_bytes=psutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        store_bytes=sum(int(spec["object_store_memory"]) for spec in twin.node_specs(config, catalogue)),
        disks=_disks(("/tmp", str(_nearest_that_exists(config.state_path)))),
        state_dir=str(config.state_path),
        state_mode=state_mode,
        is_state_writable=os.access(_nearest_that_exists(config.state_path), os.W_OK),
        token=str(token),
        token_mode=token_mode,
        devices=tuple(f"{device.count} x {device.name} ({device.flavor or 'no known flavor'})" for device in found.devices),
        problems=found.problems,
        memory_bytes=memory.total,
        available_bytes=memory.available,
        num_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        twin=state,
        is_twin_running=twin.running(config) is not None,
        is_twin_file=file.exists(),
        broken_profiles=tuple(set_aside_files(config.state_path)),
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _import_problem() -> str:
    auth.settle()
    try:
        import_module("ray")
    except Exception as error:  # a broken installation fails in any way it likes
        return f"{type(error).__name__}: {error}"
    return ""


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _nearest_that_exists(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _disks(paths: tuple[str, ...]) -> dict[str, Disk]:
    """Each file system once, however many of the paths lie on it."""
    disks: dict[int, tuple[str, Disk]] = {}
    for path in paths:
        usage = psutil.disk_usage(path)
        disks.setdefault(Path(path).stat().st_dev, (path, Disk(usage.free, usage.total)))
    return dict(disks.values())


def _listeners(ports: dict[int, str]) -> dict[int, Listener]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):  # macOS shows other users' sockets to root only
        return {port: Listener("another process", is_ours=False) for port in ports if _is_taken(port)}
    taken = {}
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port in ports:
            taken[connection.laddr.port] = _listener(connection.pid)
    return taken


def _listener(pid: int | None) -> Listener:
    if pid is None:
        return Listener("a process of another user", is_ours=False)
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        command = " ".join([process.name(), *process.cmdline()])
        return Listener(f"{process.name()} (pid {pid})", any(mark in command for mark in _OURS))
    return Listener(f"pid {pid}", is_ours=False)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _twin_file(config: FabricConfig) -> tuple[Path, TwinState | None]:
    file = twin.state_file(config)
    with contextlib.suppress(OSError, ValueError, TypeError):
        return file, TwinState(**json.loads(file.read_text(encoding="utf-8")))
    return file, None
