"""Reports how long a model's requests run, from the replica that ran them to the profiler, as a worker reports its calls.

Invariants: noting a run costs less than a microsecond and never blocks; of many runs an even sample is sent; a profiler that is away costs
nothing but the report.
"""

from __future__ import annotations

import contextlib
import os
import random
import uuid

from fabric import ray_io
from fabric.errors import FabricError
from fabric.types import model_task
from fabric.worker import PROFILER, Row

REPORT_EVERY_S = 10.0
MAX_REPORTED = 16
"""Runs in one report. A profile fades after some fifty runs: more would tell of the last minute only."""


class Sample:
    """An even sample of at most `size` of the values that were added since it was last taken."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size, self._rng = size, random.Random(seed)
        self._kept: list[tuple[float, int]] = []
        self._num_added = 0

    def add(self, value: tuple[float, int]) -> None:
        """Source: J. Vitter, "Random sampling with a reservoir", ACM TOMS 11(1), 1985, algorithm R."""
        self._num_added += 1
        if len(self._kept) < self._size:
            self._kept.append(value)
        elif (place := int(self._rng.random() * self._num_added)) < self._size:
            self._kept[place] = value

    def take(self) -> list[tuple[float, int]]:
        kept, self._kept, self._num_added = self._kept, [], 0
        return kept


def rows_of(runs: list[tuple[float, int]], model: str, kind: str, user: str, queue: str) -> list[Row]:
    """The profiler's rows of runs (seconds, input bytes); CPU and memory are not told apart by request."""
    rest = (0, None, None, None)
    return [(uuid.uuid4().hex, model_task(model), kind, run_s, 0.0, 0, "ok", size, user, queue, 0, *rest) for run_s, size in runs]


def gpu_percent() -> float | None:
    """Mean use of the cards that Ray gave this replica, over NVML's last period; None where there is none or it does not say."""
    cards = ray_io.assigned_cards()
    if not cards:
        return None
    from pools.telemetry import read_cards

    busy, _ = read_cards(cards, os.getpid())
    return None if busy is None else 100.0 * busy


class ModelRuns:
    """One per replica. `kind`: what it computes on, as in `fabric.types.Offer`."""

    def __init__(self, model: str, kind: str, *, user: str = "", queue: str = "") -> None:
        self._told = (model, kind, user, queue)
        self._place = ray_io.worker_place()
        self._sample = Sample(MAX_REPORTED)
        self._reported_s = float("-inf")

    def note(self, run_s: float, input_bytes: int = -1) -> None:
        """One request ran for so long, without its waiting."""
        self._sample.add((run_s, input_bytes))

    def flush(self, now_s: float) -> bool:
        """Send what was noted, at most every `REPORT_EVERY_S`; whether it was sent."""
        if now_s - self._reported_s < REPORT_EVERY_S:
            return False
        self._reported_s = now_s
        rows = rows_of(self._sample.take(), *self._told)
        if not rows or not self._place.flavor:
            return False
        with contextlib.suppress(FabricError):
            ray_io.actor(PROFILER).record.remote(self._place.node_id, self._place.flavor, rows)
        return True
