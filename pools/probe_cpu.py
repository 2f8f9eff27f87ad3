"""Decides what a machine's CPU is called, which instruction sets it has, and how many logical CPUs may be used.

Invariants: an instruction set is reported as /proc/cpuinfo spells it, and only where this very machine has it; the count is
what affinity and cgroup quota leave, at least 1; a machine without /proc/cpuinfo still has a CPU.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from fabric.types import Device

SOURCE = "cpuinfo"
X86 = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
ARM = ("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2")
INSTRUCTION_SETS = (*X86, *ARM)

# AArch64 has no model name in /proc/cpuinfo. Source: Arm Main ID registers, as in util-linux's lscpu-arm.c.
_ARM_CORES = {
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0c"): "Arm Neoverse N1",
    ("0x41", "0xd40"): "Arm Neoverse V1",
    ("0x41", "0xd49"): "Arm Neoverse N2",
    ("0x41", "0xd4f"): "Arm Neoverse V2",
    ("0xc0", "0xac3"): "Ampere-1",
}


def probe(
    *,
    wanted: Collection[str] = (),
    proc_root: str | Path = "/proc",
    sys_root: str | Path = "/sys",
    num_usable: int | None = None,
    machine: str | None = None,
) -> Iterator[Device | str]:
    """The CPU as one device. `wanted`: flags to report beyond `INSTRUCTION_SETS`, those that a flavor asks for.

    /proc/cpuinfo is read here because archspec answers another question: `archspec.cpu.host()` gives the nearest known
    microarchitecture and its flags, and on a virtual "AMD EPYC" that is x86_64_v4, which has lost the host's avx512_vnni.
    """
    proc_root = Path(proc_root)
    fields = _cpuinfo(proc_root)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    machine = machine or platform.machine()
    if not flags and machine in ("arm64", "aarch64"):
        flags = ["asimd"]  # part of every 64-bit Arm application core; macOS has no /proc
    if not flags:
        yield f"the CPU's instruction sets are unknown: no flags in {proc_root / 'cpuinfo'}"
    reported = (*INSTRUCTION_SETS, *sorted(set(wanted) - set(INSTRUCTION_SETS)))
    affinity = num_usable or _num_in_affinity()
    quota = _cgroup_quota(proc_root, Path(sys_root))
    yield Device(
        kind="cpu",
        name=_name(fields, machine),
        # Rounded down as Ray does: half a CPU more would be promised twice.
        count=max(1, min(affinity, math.floor(quota))) if quota is not None else affinity,
        isa=tuple(flag for flag in reported if flag in frozenset(flags)),
        resource="CPU",
        source=SOURCE,
    )


def _cpuinfo(proc_root: Path) -> dict[str, str]:
    """The fields of the first processor; a later one wins nothing."""
    fields: dict[str, str] = {}
    for line in _read(proc_root / "cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _name(fields: dict[str, str], machine: str) -> str:
    if model := fields.get("model name"):
        return model
    core = (fields.get("CPU implementer", ""), fields.get("CPU part", ""))
    if core in _ARM_CORES:
        return _ARM_CORES[core]
    return f"{machine} implementer {core[0]} part {core[1]}" if all(core) else f"{machine} CPU"


def _num_in_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_quota(proc_root: Path, sys_root: Path) -> float | None:
    """CPUs that the tightest cgroup above this process allows; None where none of them limits it."""
    limits: list[float] = []
    for line in _read(proc_root / "self" / "cgroup").splitlines():
        _, _, tail = line.partition(":")
        controllers, _, path = tail.partition(":")
        if controllers == "":
            limits += _limits(sys_root / "fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            limits += _limits(sys_root / "fs/cgroup/cpu", path, _quota_v1)
    return min(limits, default=None)


def _limits(mount: Path, path: str, quota_of: Callable[[Path], float | None]) -> Iterator[float]:
    """Of the group and all above it: a parent's quota binds its children. In a container the root is the group itself."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        quota = quota_of(mount.joinpath(*parts[:depth]))
        if quota is not None:
            yield quota


def _quota_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _quota_v1(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """None for `max`, for -1 and for anything that is not two numbers."""
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0 or int(quota) == 0:
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
