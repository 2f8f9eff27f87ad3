"""Decides how many CPUs and what share of a card a call asks for: the p95 of what earlier calls of its variant used, and a margin.

Invariants: fewer than `LEAST_RUNS` runs change nothing; amounts are those that Ray takes (whole above 1), and few, so that calls share
workers; a card's share covers both its memory and its use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fabric.types import shown_bytes
from profiler.needs import Needs

LEAST_RUNS = 5
MARGIN = 0.1
CPU_PARTS = (0.25, 0.5)
OWN_CPUS = 0.1
GPU_PARTS = (0.125, 0.25, 0.5, 1.0)


class Share(NamedTuple):
    """An amount of CPUs or cards, and how that came about."""

    amount: float
    sum: str


def cpus(needs: Needs) -> Share | None:
    """None where too little is known."""
    used = [use.cpus for use in needs.uses]
    if len(used) < LEAST_RUNS:
        return None
    p95 = quantile(used, 0.95)
    wanted = p95 * (1.0 + MARGIN)
    # A worker's own threads keep a little of a second CPU busy beside one that computes.
    most = 1.0 if p95 <= 1.0 + OWN_CPUS else float(math.ceil(wanted - OWN_CPUS))
    amount = next((part for part in CPU_PARTS if wanted <= part), most)
    return Share(amount, f"CPUs: p95 of {len(used)} runs: {p95:.2g} + {MARGIN:.0%}, {amount:g}")


def gpus(needs: Needs, card_bytes: int | None) -> Share | None:
    """The share of one card of the smallest kind that it may run on, with `card_bytes` of memory. None where too little is known."""
    seen = [use for use in needs.uses if use.gpu_frac is not None and use.gpu_bytes is not None]
    if len(seen) < LEAST_RUNS or not card_bytes:
        return None
    busy = quantile([use.gpu_frac or 0.0 for use in seen], 0.95)
    held = quantile([float(use.gpu_bytes or 0) for use in seen], 0.95)
    wanted = max(busy, held / card_bytes) * (1.0 + MARGIN)
    amount = next((part for part in GPU_PARTS if wanted <= part), 1.0)
    what = f"{shown_bytes(held)} of {shown_bytes(card_bytes)}, {busy:.0%} busy"
    return Share(amount, f"GPU: p95 of {len(seen)} runs: {what} + {MARGIN:.0%}, {amount:g}")


def quantile(values: Sequence[float], level: float) -> float:
    """The least value that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(math.ceil(level * len(ordered)), len(ordered)) - 1]
