"""Pure: what this machine's facts say about running a fabric here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fabric.doctor.check import GOOD_FILES, LEAST_DISK_BYTES, LEAST_FILES, Check, State
from fabric.show import gib
from fabric.twin import TwinState

RAY_VERSION = "2.60.0"
OLDEST_PYTHON = (3, 11)
LEAST_MEMORY_BYTES = 2 * 2**30
FULL_DISK_FRAC = 0.95
"""Ray stops writing to a disk that is fuller. Source: Ray 2.60, `local_fs_capacity_threshold`."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a port. `is_ours`: Ray or a twin."""

    process: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Disk:
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What was seen on this machine. A mode is the nine permission bits; None: the file is not there.

    `ports`: port -> what it is for; `listeners`: those of them that are taken. `twin`: what twin.json says.
    """

    python: tuple[int, int, int]
    ray: str | None
    ray_problem: str
    ports: Mapping[int, str]
    listeners: Mapping[int, Listener]
    shm_bytes: int | None
    store_bytes: int
    disks: Mapping[str, Disk]
    state_dir: str
    state_mode: int | None
    is_state_writable: bool
    token: str
    token_mode: int | None
    devices: tuple[str, ...]
    problems: tuple[str, ...]
    memory_bytes: int
    available_bytes: int
    num_files: int
    twin: TwinState | None
    is_twin_running: bool
    is_twin_file: bool
    broken_profiles: tuple[str, ...] = ()
    """Profile databases that could not be read and were moved aside."""


def check_machine(facts: MachineFacts) -> list[Check]:
    """Every check of this machine, in the order in which a newcomer would mend them."""
    return [
        _python(facts),
        _ray(facts),
        *_ports(facts),
        _shm(facts),
        *(_disk(path, disk) for path, disk in facts.disks.items()),
        _state_dir(facts),
        *(_profiles(file) for file in facts.broken_profiles),
        _token(facts),
        *_devices(facts),
        _memory(facts),
        _files(facts),
        _twin(facts),
    ]


def _check(name: str, state: State, detail: str, cure: str = "") -> Check:
    return Check("machine", name, state, detail, cure)


def _python(facts: MachineFacts) -> Check:
    version = ".".join(map(str, facts.python))
    if facts.python[:2] < OLDEST_PYTHON:
        return _check("python", "fail", version, "install Python 3.11 or newer, the same on every node")
    return _check("python", "ok", version)


def _ray(facts: MachineFacts) -> Check:
    cure = f'pip install "ray[default,serve,train]=={RAY_VERSION}"'
    if facts.ray is None:
        return _check("ray", "fail", "not installed", cure)
    if facts.ray_problem:
        return _check("ray", "fail", f"{facts.ray} cannot be imported: {facts.ray_problem}", cure)
    if facts.ray != RAY_VERSION:
        return _check("ray", "fail", f"{facts.ray}, but this release is made for {RAY_VERSION}", cure)
    return _check("ray", "ok", facts.ray)


def _ports(facts: MachineFacts) -> Iterator[Check]:
    for port, purpose in facts.ports.items():
        listener = facts.listeners.get(port)
        if listener is None:
            yield _check(f"port {port}", "ok", f"free ({purpose})")
        elif listener.is_ours:
            yield _check(f"port {port}", "ok", f"{listener.process} ({purpose})")
        else:
            cure = f"end {listener.process}, or give {purpose} another port"
            yield _check(f"port {port}", "warn", f"taken by {listener.process}; {purpose} would use it", cure)


def _shm(facts: MachineFacts) -> Check:
    if facts.shm_bytes is None:
        return _check("/dev/shm", "ok", "not on this system; Ray keeps objects in files")
    detail = f"{gib(facts.shm_bytes)}, the twin's object stores need {gib(facts.store_bytes)}"
    if facts.shm_bytes < facts.store_bytes:
        cure = "in a container: --shm-size; else remount: mount -o remount,size=… /dev/shm. Ray uses /tmp until then, slowly"
        return _check("/dev/shm", "warn", detail, cure)
    return _check("/dev/shm", "ok", detail)


def _disk(path: str, disk: Disk) -> Check:
    detail = f"{gib(disk.free_bytes)} of {gib(disk.total_bytes)} free"
    full = f"{path} is nearly full"
    if disk.free_bytes < LEAST_DISK_BYTES:
        return _check(f"disk {path}", "fail", detail, f"{full}: make room (old sessions lie in /tmp/ray)")
    if disk.total_bytes and 1 - disk.free_bytes / disk.total_bytes > FULL_DISK_FRAC:
        return _check(f"disk {path}", "warn", detail, f"{full}: Ray does not spill to a disk over {FULL_DISK_FRAC:.0%}; make room")
    return _check(f"disk {path}", "ok", detail)


def _state_dir(facts: MachineFacts) -> Check:
    path = facts.state_dir
    if not facts.is_state_writable:
        return _check("state_dir", "fail", f"{path} cannot be written", f"chown it to you, or set state_dir (FABRIC_STATE_DIR): {path}")
    if facts.state_mode is None:
        return _check("state_dir", "ok", f"{path} (made at the first `fabric up`)")
    if facts.state_mode & 0o077:
        return _check("state_dir", "warn", f"{path} is open to others (mode {facts.state_mode:04o})", f"chmod 700 {path}")
    return _check("state_dir", "ok", path)


def _profiles(file: str) -> Check:
    cure = f"rm {file}, or `fabric profiles import` an earlier export"
    return _check("profiles", "warn", f"could not be read and began anew; the broken file is {file}", cure)


def _token(facts: MachineFacts) -> Check:
    if facts.token_mode is None:
        return _check("auth token", "ok", f"{facts.token} (made when first needed)")
    if facts.token_mode & 0o077:
        return _check("auth token", "warn", f"{facts.token} is open to others (mode {facts.token_mode:04o})", f"chmod 600 {facts.token}")
    return _check("auth token", "ok", f"{facts.token}, mode {facts.token_mode:04o}")


def _devices(facts: MachineFacts) -> Iterator[Check]:
    yield _check("devices", "ok", "; ".join(facts.devices) or "none")
    for problem in facts.problems:
        yield _check("devices", "warn", problem, "mend the driver or plug-in, or declare the card under devices: in fabric.yaml")


def _memory(facts: MachineFacts) -> Check:
    detail = f"{gib(facts.available_bytes)} of {gib(facts.memory_bytes)} available"
    if facts.available_bytes < LEAST_MEMORY_BYTES:
        return _check("memory", "warn", detail, f"end something: a twin takes about {gib(LEAST_MEMORY_BYTES)}")
    return _check("memory", "ok", detail)


def _files(facts: MachineFacts) -> Check:
    detail = f"{facts.num_files} open files allowed"
    if facts.num_files < LEAST_FILES:
        return _check("ulimit -n", "fail", detail, "ulimit -n 65536, before `fabric up`")
    if facts.num_files < GOOD_FILES:
        return _check("ulimit -n", "warn", detail, "ulimit -n 65536, before `fabric up`")
    return _check("ulimit -n", "ok", detail)


def _twin(facts: MachineFacts) -> Check:
    if facts.is_twin_running and facts.twin is not None:
        return _check("twin", "ok", f"runs at {facts.twin.address}, pid {facts.twin.pid}")
    if facts.is_twin_file:
        whose = f"of pid {facts.twin.pid}, which is gone" if facts.twin else "and cannot be read"
        return _check(
            "twin", "warn", f"twin.json is left over {whose}", f"rm {facts.state_dir}/twin.json, or `fabric up`, which replaces it"
        )
    return _check("twin", "ok", "none runs here")
