"""Decides which NVIDIA cards a machine has, by asking NVML.

Invariants: one device per model, with its count; a MIG slice is named by its profile under the card that carries it and
never counted as a card (Ray counts cards); a machine without NVML and without an NVIDIA card on its PCI bus is a machine
without NVIDIA cards, not a broken one; one lost card does not hide the others.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fabric.types import Device
from pools.pci import CLASS_ACCELERATOR, CLASS_DISPLAY, NVIDIA, cards

SOURCE = "nvml"
FIRST_WITH_TENSOR_CORES = 7.0


def probe(nvml: Any = None, *, sys_root: str | Path = "/sys") -> Iterator[Device | str]:
    """Devices, and a line for each problem. `nvml`: a module shaped like pynvml; None imports the real one."""
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception as error:  # no library, no driver, driver and library of two versions, a bare OSError from ctypes
        if _on_the_bus(sys_root):
            yield f"NVIDIA card on the PCI bus but NVML failed: {_said(error)}"
        return
    try:
        yield from _cards(nvml)
    finally:
        nvml.nvmlShutdown()


def _cards(nvml: Any) -> Iterator[Device | str]:
    found: dict[tuple[str, int | None, float | None], Device] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            card = _card(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError as error:
            yield f"NVIDIA card {index} does not answer: {_said(error)}"
            continue
        key = (card.name, card.memory_bytes, card.compute_capability)
        seen = found.get(key)
        found[key] = replace(seen, count=seen.count + 1, mig=(*seen.mig, *card.mig)) if seen else card
    yield from found.values()


def _card(nvml: Any, handle: Any) -> Device:
    capability = _optional(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    memory = _optional(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    major_minor = None if capability is None else capability[0] + capability[1] / 10
    return Device(
        kind="gpu",
        name=_text(nvml.nvmlDeviceGetName(handle)),
        count=1,
        memory_bytes=None if memory is None else int(memory.total),
        compute_capability=major_minor,
        tensor_cores=None if major_minor is None else major_minor >= FIRST_WITH_TENSOR_CORES,
        resource="GPU",
        mig=tuple(_mig_profiles(nvml, handle)),
        source=SOURCE,
    )


def _mig_profiles(nvml: Any, handle: Any) -> Iterator[str]:
    """`1g.10gb` for each slice, in the card's order; nothing where the card cannot or does not use MIG."""
    modes = _optional(nvml, nvml.nvmlDeviceGetMigMode, handle)
    if modes is None or modes[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(_optional(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        try:
            slice_handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:
            continue  # places for slices have gaps
        # A slice is called "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
        yield _text(nvml.nvmlDeviceGetName(slice_handle)).rpartition(" MIG ")[2]


def _optional(nvml: Any, call: Any, *arguments: Any) -> Any:
    """None where the card does not support the question: MIG on a T4, its own memory on a Grace superchip."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def _on_the_bus(sys_root: str | Path) -> bool:
    # By class, because NVSwitches and the audio functions of a chipset carry the vendor's number too.
    return any(card.base_class in (CLASS_DISPLAY, CLASS_ACCELERATOR, None) for card in cards(sys_root, NVIDIA))


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
