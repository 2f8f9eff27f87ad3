"""Decides which accelerators other than NVIDIA's a machine has, from its PCI bus and the device nodes of their drivers.

Invariants: a card whose driver has made no device node is not a device (no work could reach it); where Ray counts device
nodes, this counts the same ones, so that both see the same machine; nothing here talks to a driver or imports a vendor's
library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fabric.types import Device
from pools import pci

SOURCE = "pci"

_XILINX_CLASSES = (pci.CLASS_MEMORY_CONTROLLER, pci.CLASS_ACCELERATOR, None)
# Discrete GPUs for computing: 3D controller, and display controller that is not VGA. An integrated GPU is 0x0300.
_INTEL_GPU_CLASSES = (0x0302, 0x0380)


def probe(*, sys_root: str | Path = "/sys", dev_root: str | Path = "/dev") -> Iterator[Device | str]:
    """Devices, and a line for each card that is there and cannot be reached."""
    machine, dev = Path(sys_root), Path(dev_root)
    for look in (_tpus, _neurons, _gaudis, _ascends, _amd_gpus, _intel_gpus, _xilinx, _qualcomm):
        yield from look(machine, dev)


def _tpus(machine: Path, dev: Path) -> Iterator[Device | str]:
    # Like Ray: files /dev/accelN only. /dev/accel as a folder belongs to the kernel's accel subsystem (NVIDIA, Intel, Qualcomm).
    count = sum(not node.is_dir() for node in _nodes(dev, r"accel\d+"))
    if count == 0:
        groups = machine / "kernel/iommu_groups"
        count = sum(_is_google(groups / node.name / "devices") for node in _nodes(dev / "vfio", r"\d+"))
    if count:
        chips = [card for card in pci.cards(machine, pci.GOOGLE) if card.name]  # gVNIC and disks are Google's too
        yield _device("tpu", chips[0].name if chips else None, "Google TPU", count, "TPU")


def _is_google(group: Path) -> bool:
    # Any device bound to vfio-pci shows as /dev/vfio/N; only its PCI vendor tells a TPU from a passed-through NIC.
    try:
        return any(int((device / "vendor").read_text().strip(), 16) == pci.GOOGLE for device in group.iterdir())
    except (OSError, ValueError):
        return False


def _neurons(machine: Path, dev: Path) -> Iterator[Device | str]:
    if count := len(_nodes(dev, r"neuron\d+")):
        chips = [card for card in pci.cards(machine, pci.AMAZON) if card.name]
        yield _device("asic", chips[0].name if chips else None, "AWS Neuron", count, "neuron_cores")


def _gaudis(machine: Path, dev: Path) -> Iterator[Device | str]:
    reachable = bool(_nodes(dev, r"hl\d+") or _nodes(dev / "accel", r"accel\d+"))
    yield from _counted(pci.cards(machine, pci.HABANA), reachable, "hpu", "Intel Gaudi", "HPU")


def _ascends(machine: Path, dev: Path) -> Iterator[Device | str]:
    if count := len(_nodes(dev, r"davinci\d+")):
        yield _device("npu", None, "Huawei Ascend", count, "NPU")


def _amd_gpus(machine: Path, dev: Path) -> Iterator[Device | str]:
    found = _of(pci.cards(machine, pci.AMD), lambda card: card.base_class == pci.CLASS_DISPLAY or card.class_code == 0x1200)
    # Without the compute driver's node an AMD card only draws pictures: silently no device.
    if (dev / "kfd").exists():
        yield from _counted(found, True, "gpu", "AMD GPU", "GPU")


def _intel_gpus(machine: Path, dev: Path) -> Iterator[Device | str]:
    found = _of(pci.cards(machine, pci.INTEL), lambda card: card.class_code in _INTEL_GPU_CLASSES)
    if _nodes(dev / "dri", r"renderD\d+"):
        yield from _counted(found, True, "gpu", "Intel GPU", "GPU")


def _xilinx(machine: Path, dev: Path) -> Iterator[Device | str]:
    # No node is asked for: XRT, QDMA and XDMA each make another one. Sound cards were built on Xilinx ids too, hence the class.
    found = _of(pci.cards(machine, pci.XILINX), lambda card: card.name is not None or card.base_class in _XILINX_CLASSES)
    yield from _counted(found, True, "fpga", "Xilinx FPGA", "FPGA")


def _qualcomm(machine: Path, dev: Path) -> Iterator[Device | str]:
    # By name or class, because most of Qualcomm's PCI devices are Wi-Fi cards and modems.
    found = _of(pci.cards(machine, pci.QUALCOMM), lambda card: card.name is not None or card.base_class == pci.CLASS_ACCELERATOR)
    reachable = bool(_nodes(dev, r"qaic.*") or _nodes(dev / "accel", r"accel\d+"))
    yield from _counted(found, reachable, "npu", "Qualcomm AI accelerator", "QAIC")


def _of(cards: Iterable[pci.PciCard], keep: Callable[[pci.PciCard], bool]) -> tuple[pci.PciCard, ...]:
    return tuple(card for card in cards if keep(card))


def _counted(cards: Iterable[pci.PciCard], reachable: bool, kind: str, family: str, resource: str) -> Iterator[Device | str]:
    models = Counter(card.name or f"{family} {card.vendor:04x}:{card.device:04x}" for card in cards)
    for name, count in models.items():
        if reachable:
            yield _device(kind, name, family, count, resource)
        else:
            yield f"{count} x {name} on the PCI bus but no device node in /dev: its driver is not loaded, or not passed to this container"


def _device(kind: str, name: str | None, family: str, count: int, resource: str) -> Device:
    return Device(kind=kind, name=name or family, count=count, resource=resource, source=SOURCE)


def _nodes(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(node for node in folder.iterdir() if re.fullmatch(pattern, node.name))
    except OSError:
        return []
