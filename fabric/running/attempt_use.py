"""What an attempt used, from what each of its ranks did. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fabric.job import AttemptUse
from fabric.running.order import Ending, Order

_NOT_CARDS = ("CPU", "memory")


def attempt_use(order: Order, wall_s: float, endings: Sequence[Ending]) -> AttemptUse | None:
    """`wall_s`: from the start of its ranks to the end of all. None where a rank was not measured: half of it would mislead."""
    uses = [ending.use for ending in endings if ending.use is not None]
    if len(uses) < len(endings) or not uses:
        return None
    asked = order.declared
    return AttemptUse(
        wall_s=wall_s,
        cpu_asked_s=asked.get("CPU", 0.0) * wall_s,
        cpu_s=sum(use.cpu_s for use in uses),
        memory_bytes=order.memory_bytes,
        peak_memory_bytes=max(use.peak_memory_bytes for use in uses),
        accelerator_asked_s=sum(amount for name, amount in asked.items() if name not in _NOT_CARDS) * wall_s,
        gpu_seen_s=_sum(use.gpu_seen_s for use in uses),
        gpu_busy_s=_sum(use.gpu_busy_s for use in uses),
        gpu_memory_bytes=_most(use.gpu_memory_bytes for use in uses),
        peak_gpu_memory_bytes=_most(use.peak_gpu_memory_bytes for use in uses),
    )


def _sum(figures: Iterable[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _most(figures: Iterable[int | None]) -> int | None:
    return max((figure for figure in figures if figure is not None), default=None)
