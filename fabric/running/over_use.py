"""What a Ray job uses above what it declared. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

_TOLERANCE = 1e-6


def total_of(bundles: Iterable[Mapping[str, float]], others: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for one in (*bundles, *others):
        for name, amount in one.items():
            total[name] += amount
    return dict(total)


def over_use(declared: Mapping[str, float], used: Mapping[str, float]) -> str:
    """What is used above what was declared, in words; empty where nothing is. Memory counts where it was declared."""
    over = [
        f"{name} {amount:g} of {declared.get(name, 0.0):g}"
        for name, amount in sorted(used.items())
        if amount > declared.get(name, 0.0) + _TOLERANCE and (name != "memory" or "memory" in declared) and not name.startswith("node:")
    ]
    return ", ".join(over)
