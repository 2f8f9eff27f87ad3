"""Watches the NVIDIA cards that a rank sees: how busy they were and how much of their memory was taken.

The figures are those of whole cards: an attempt holds its cards alone. Invariant: a card or a driver that does not answer is no
measurement, never a zero and never a failed job.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from pools.telemetry import load_nvml

GPU_WATCH_S = 1.0
"""NVML's own utilisation is the mean over a sixth of a second to a second."""


class GpuWatch:
    """`visible` is the rank's CUDA_VISIBLE_DEVICES: numbers or UUIDs. `look` is called now and then while the rank runs."""

    def __init__(self, visible: str, nvml: Any = None) -> None:
        self._nvml: Any = nvml or (load_nvml() if visible.strip() else None)
        self._cards: Sequence[Any] = () if self._nvml is None else self._found(visible)
        self._looked_s: float | None = None
        self.seen_s: float | None = None
        self.busy_s: float | None = None
        self.peak_memory_bytes: int | None = None
        self.memory_bytes: int | None = None

    def look(self, now_s: float) -> None:
        """What the cards do counts for the time since the last look; the first one only begins."""
        if not self._cards or (self._looked_s is not None and now_s - self._looked_s < GPU_WATCH_S):
            return
        passed_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        for card in self._cards:
            with contextlib.suppress(self._nvml.NVMLError):  # a card in MIG mode has no utilisation of its own
                memory = self._nvml.nvmlDeviceGetMemoryInfo(card)
                self.peak_memory_bytes = max(self.peak_memory_bytes or 0, int(memory.used))
                self.memory_bytes = max(self.memory_bytes or 0, int(memory.total))
                if passed_s:
                    busy_frac = self._nvml.nvmlDeviceGetUtilizationRates(card).gpu / 100.0
                    self.seen_s = (self.seen_s or 0.0) + passed_s
                    self.busy_s = (self.busy_s or 0.0) + busy_frac * passed_s

    def _found(self, visible: str) -> Sequence[Any]:
        found = []
        for word in filter(None, (part.strip() for part in visible.split(","))):
            with contextlib.suppress(self._nvml.NVMLError):
                by_number = word.isdigit()
                found.append(self._nvml.nvmlDeviceGetHandleByIndex(int(word)) if by_number else self._nvml.nvmlDeviceGetHandleByUUID(word))
        return found
