"""Reads the PCI bus from sysfs and decides what an accelerator's PCI id is called.

Invariants: reading never fails (a bus that is not there has no cards); a card is counted once, however many functions it
shows; a name here is one that a flavor's `match` can be written for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PCI_DEVICES = "bus/pci/devices"

NVIDIA = 0x10DE
AMD = 0x1002
INTEL = 0x8086
XILINX = 0x10EE
QUALCOMM = 0x17CB
GOOGLE = 0x1AE0
AMAZON = 0x1D0F
HABANA = 0x1DA3

CLASS_DISPLAY = 0x03
CLASS_MEMORY_CONTROLLER = 0x05
CLASS_ACCELERATOR = 0x12

# Source: linux drivers/accel/habanalabs and Habana's hccl (Gaudi), aws-neuron-driver neuron_device.h and pci.ids (Neuron), jax
# _src/hardware_utils.py (TPU), linux drivers/accel/qaic (Cloud AI), XRT's xocl devices.h (Xilinx: a management and a user
# function for each card), Ray's own table (AMD). A Xilinx card that still carries its golden image has another id, and no name.
NAMES: Mapping[tuple[int, int], str] = {
    (HABANA, 0x1000): "Intel Gaudi",
    (HABANA, 0x1010): "Intel Gaudi",
    (HABANA, 0x1020): "Intel Gaudi2",
    (HABANA, 0x1021): "Intel Gaudi2",
    (HABANA, 0x1030): "Intel Gaudi2",
    (HABANA, 0x1060): "Intel Gaudi3",
    (HABANA, 0x1063): "Intel Gaudi3",
    (AMAZON, 0x7064): "AWS Inferentia",
    (AMAZON, 0x7065): "AWS Inferentia",
    (AMAZON, 0x7066): "AWS Inferentia",
    (AMAZON, 0x7067): "AWS Inferentia",
    (AMAZON, 0x7164): "AWS Trainium",
    (AMAZON, 0x7264): "AWS Inferentia2",
    (AMAZON, 0x7364): "AWS Trainium2",
    (GOOGLE, 0x0027): "Google TPU v2 or v3",
    (GOOGLE, 0x005E): "Google TPU v4",
    (GOOGLE, 0x0062): "Google TPU v5p",
    (GOOGLE, 0x0063): "Google TPU v5e",
    (GOOGLE, 0x006F): "Google TPU v6e",
    (GOOGLE, 0x0076): "Google TPU v7x",
    (QUALCOMM, 0xA080): "Qualcomm Cloud AI 80",
    (QUALCOMM, 0xA100): "Qualcomm Cloud AI 100",
    (XILINX, 0x5000): "Alveo U200",
    (XILINX, 0x5001): "Alveo U200",
    (XILINX, 0x5004): "Alveo U250",
    (XILINX, 0x5005): "Alveo U250",
    (XILINX, 0x5014): "Alveo U250",
    (XILINX, 0x500C): "Alveo U280",
    (XILINX, 0x500D): "Alveo U280",
    (XILINX, 0x5020): "Alveo U50",
    (XILINX, 0x5021): "Alveo U50",
    (XILINX, 0x505C): "Alveo U55C",
    (XILINX, 0x505D): "Alveo U55C",
    (XILINX, 0x5044): "Versal VCK5000",
    (XILINX, 0x5045): "Versal VCK5000",
    (XILINX, 0x5048): "Versal VCK5000",
    (XILINX, 0x5049): "Versal VCK5000",
    (AMD, 0x66A1): "AMD Instinct MI50",
    (AMD, 0x738C): "AMD Instinct MI100",
    (AMD, 0x7408): "AMD Instinct MI250X",
    (AMD, 0x740C): "AMD Instinct MI250",
    (AMD, 0x740F): "AMD Instinct MI210",
    (AMD, 0x74A0): "AMD Instinct MI300A",
    (AMD, 0x74A1): "AMD Instinct MI300X",
    (AMD, 0x74A5): "AMD Instinct MI325X",
    (AMD, 0x75A0): "AMD Instinct MI350X",
    (AMD, 0x75A3): "AMD Instinct MI355X",
}


@dataclass(frozen=True, slots=True)
class PciCard:
    """One card: the lowest function at one bus address. `class_code` is the base class and subclass, 0x0302 for example."""

    slot: str
    vendor: int
    device: int
    class_code: int | None

    @property
    def base_class(self) -> int | None:
        return None if self.class_code is None else self.class_code >> 8

    @property
    def name(self) -> str | None:
        return NAMES.get((self.vendor, self.device))


def cards(sys_root: str | Path, *vendors: int) -> tuple[PciCard, ...]:
    """The cards of these vendors, by bus address."""
    found: dict[str, PciCard] = {}
    for function in _entries(Path(sys_root) / PCI_DEVICES):
        # Domain:bus:device.function: an Alveo shows a management and a user function, a GPU its audio function.
        slot = function.name.partition(".")[0]
        vendor, device = _hex(function / "vendor"), _hex(function / "device")
        if vendor not in vendors or device is None or slot in found:
            continue
        code = _hex(function / "class")
        found[slot] = PciCard(slot, vendor, device, None if code is None else code >> 8)
    return tuple(found.values())


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _hex(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii").strip(), 16)
    except (OSError, ValueError):
        return None
