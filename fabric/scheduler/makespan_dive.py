"""From the linear step model to whole decisions: fix the ways of the next step one by one, solving again after each.

A dive needs a bounded number of warm solves, so its effort does not depend on luck; the last solve is exact for what it fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fabric.scheduler.lp import LinearProgram, Resolver, Solution
from fabric.scheduler.makespan_model import Indices, Ways

_WHOLE = 1e-6


@dataclass(frozen=True, slots=True)
class Choice:
    """Positions of the ways to hold during the step, and what the model says of them (seconds)."""

    ways: Indices
    objective: float


def dive(program: LinearProgram, ways: Ways, max_fixes: int, slack: float) -> Choice | None:
    """Whole `now` columns of `step_program`; None where the model has no solution or the fixes do not suffice.

    A rounding up that costs more than `slack` is compared with rounding down.
    """
    num = len(ways.job)
    resolver = Resolver(program)
    best = resolver.solve()
    for _ in range(max_fixes):
        if best is None:
            return None
        now = best.x[num : 2 * num]
        broken = np.flatnonzero((now > _WHOLE) & (now < 1 - _WHOLE))
        if not len(broken):
            return Choice(np.flatnonzero(now > 0.5), best.objective)
        way = int(broken[np.lexsort((-ways.units[broken], -np.round(now[broken], 6)))[0]])
        best = _fix(resolver, num + way, best.objective, slack)
    return None


def _fix(resolver: Resolver, col: int, before: float, slack: float) -> Solution | None:
    resolver.bound(col, 1.0, 1.0)
    up = resolver.solve()
    if up is not None and up.objective <= before + slack:
        return up
    resolver.bound(col, 0.0, 0.0)
    down = resolver.solve()
    if up is None or (down is not None and down.objective < up.objective):
        return down
    resolver.bound(col, 1.0, 1.0)
    return resolver.solve()
