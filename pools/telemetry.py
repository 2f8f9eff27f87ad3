"""Reads one machine's use: CPU and memory through psutil, NVIDIA cards through NVML where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil

from fabric.types import NodeUsage

_nvml: Any = None
_has_tried = False


def read_usage() -> NodeUsage:
    """CPU use is the mean since the last reading in this process."""
    memory = psutil.virtual_memory()
    gpu_frac, gpu_used, gpu_total = _gpus(load_nvml())
    return NodeUsage(
        cpu_frac=psutil.cpu_percent() / 100.0,
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        gpu_frac=gpu_frac,
        gpu_memory_used_bytes=gpu_used,
        gpu_memory_total_bytes=gpu_total,
    )


def load_nvml() -> Any:
    """NVML, started once; None where there is no driver. Discovery and doctor report a broken one."""
    global _nvml, _has_tried
    if not _has_tried:
        _has_tried = True
        import pynvml

        try:
            pynvml.nvmlInit()
            _nvml = pynvml
        except pynvml.NVMLError:
            _nvml = None
    return _nvml


def _gpus(nvml: Any) -> tuple[float | None, int | None, int | None]:
    """Mean utilisation (0..1) and memory summed over all cards; None where there is no card or it does not say."""
    if nvml is None:
        return None, None, None
    busy, used, total = [], 0, 0
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        try:
            busy.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError:  # a card in MIG mode has no utilisation of its own
            continue
        used, total = used + memory.used, total + memory.total
    return (sum(busy) / len(busy) if busy else None), used or None, total or None


def read_cards(indices: Sequence[int], pid: int) -> tuple[float | None, int | None]:
    """Mean use (0..1) of these cards over NVML's last period, and the memory that a process holds on them; None where they do not say.
    A process that NVML lists under another id (in a container) is taken for the only one: all that is in use is its own."""
    nvml = load_nvml()
    if nvml is None:
        return None, None
    busy, held = [], 0
    try:
        for index in indices:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            busy.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0)
            own = [one.usedGpuMemory for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if one.pid == pid]
            held += own[0] if own and own[0] else nvml.nvmlDeviceGetMemoryInfo(handle).used
    except nvml.NVMLError:  # a card in MIG mode, or one that has fallen off the bus
        return None, None
    return (sum(busy) / len(busy), held) if busy else (None, None)
