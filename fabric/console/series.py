"""The last hour of each tier and flavor in steps of ten seconds: a ring that forgets by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fabric.console.fabric_view import FabricView, NodeFigures, known_sum

STEP_S = 10.0
NUM_STEPS = 360
FIGURES = ("gpu_frac", "cpu_frac", "leased_frac", "used_frac", "usd_per_h", "idle_usd_per_h")
_Point = dict[str, float | None]


class Series:
    """`note` it as often as there is a look; one of each step is kept."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, dict[str, _Point], dict[str, _Point]]] = deque(maxlen=NUM_STEPS)

    def note(self, view: FabricView, now_s: float) -> None:
        step_s = now_s // STEP_S * STEP_S
        if self._steps and self._steps[-1][0] >= step_s:
            return
        tiers = _points(view.nodes, lambda each: each.node.tier)
        flavors = _points(view.nodes, lambda each: each.node.flavor)
        self._steps.append((step_s, tiers, flavors))

    def kept(self) -> list[Any]:
        """All steps as plain JSON, for `bring_back`."""
        return [list(step) for step in self._steps]

    def bring_back(self, kept: list[Any], now_s: float) -> None:
        """What another console kept, as far as it is of the last hour. Raises: ValueError, TypeError, LookupError: it is no such list."""
        steps = [(float(step_s), dict(tiers), dict(flavors)) for step_s, tiers, flavors in kept]
        self._steps.extend(step for step in steps if now_s - NUM_STEPS * STEP_S < step[0] <= now_s)

    def as_json(self, minutes: float) -> dict[str, Any]:
        """`{step_s, times_s, tiers: {name: {figure: [a value for each time]}}, flavors}`; null where nothing is known."""
        steps = list(self._steps)
        if steps:
            steps = [step for step in steps if step[0] > steps[-1][0] - 60.0 * minutes]
        document: dict[str, Any] = {"step_s": STEP_S, "times_s": [step[0] for step in steps]}
        for key, number in (("tiers", 1), ("flavors", 2)):
            points: list[dict[str, _Point]] = [step[number] for step in steps]  # type: ignore[misc]
            names = dict.fromkeys(name for point in points for name in point)
            document[key] = {name: {one: [point.get(name, {}).get(one) for point in points] for one in FIGURES} for name in names}
        return document


def _points(nodes: Iterable[NodeFigures], key: Callable[[NodeFigures], str]) -> dict[str, _Point]:
    groups: dict[str, list[NodeFigures]] = {}
    for each in nodes:
        groups.setdefault(key(each), []).append(each)
    return {name: _point(group) for name, group in groups.items()}


def _point(nodes: Sequence[NodeFigures]) -> _Point:
    units = sum(each.units for each in nodes)
    usages = [each.node.usage for each in nodes if each.node.usage is not None]
    return {
        "gpu_frac": _mean([usage.gpu_frac for usage in usages if usage.gpu_frac is not None]),
        "cpu_frac": _mean([usage.cpu_frac for usage in usages]),
        "leased_frac": _short(sum(each.leased for each in nodes) / units if units else None),
        "used_frac": _short(sum(each.used for each in nodes) / units if units else None),
        "usd_per_h": _short(known_sum(each.usd_per_h for each in nodes)),
        "idle_usd_per_h": _short(known_sum(each.idle_usd_per_h for each in nodes)),
    }


def _mean(values: Sequence[float]) -> float | None:
    return _short(sum(values) / len(values)) if values else None


def _short(value: float | None) -> float | None:
    """Four digits behind the point: a chart shows no more, and an hour of them is sent at once."""
    return None if value is None else round(value, 4)
