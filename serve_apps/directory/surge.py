"""Decides how many replicas champion and challenger have at a share of the traffic, where both together may have only so many."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fabric.errors import UserError


@dataclass(frozen=True, slots=True)
class Surge:
    num_champion: int
    num_challenger: int


def check_surge(num_replicas: int, max_surge: int | None, *, is_scaled: bool) -> None:
    """`num_replicas`: of the champion. Raises: UserError (`bad_max_surge`)."""
    if max_surge is None:
        return
    if is_scaled:
        raise UserError("max_surge counts replicas, and this model's number is the autoscaler's", code="bad_max_surge", hint="leave it out")
    if num_replicas + max_surge < 2:
        raise UserError(
            "max_surge 0 exchanges replicas one by one, and this model has one",
            code="bad_max_surge",
            hint="max_surge 1, or two replicas: with one, nobody would answer meanwhile",
        )


def surge_at(share: float, num_replicas: int, max_surge: int | None) -> Surge | None:
    """At `share` (0 to 1) of the requests, of a model that has `num_replicas`: never more than `max_surge` more at once, one of each at
    least. None: both as many as they ask for."""
    if max_surge is None:
        return None
    most = num_replicas + max_surge
    challenger = min(num_replicas, most - 1, max(1, math.ceil(num_replicas * share - 1e-9)))
    return Surge(max(1, min(num_replicas, most - challenger)), challenger)
