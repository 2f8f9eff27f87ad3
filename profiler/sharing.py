"""What tasks tell of each other: forecasts for accelerators on which a task has not run, from the runs of all tasks on all of them.

Rows for `profiler.transfer` are the measured accelerators of each task and size; versions of one task's code are a family. Only tasks
that have run on some accelerator get forecasts: between a CPU and an accelerator, data sheets say too little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from fabric.types import Fingerprint, Flavor, Variant, name_of
from profiler.estimate import Forecasts, TaskProfile, uses_accelerator
from profiler.transfer import Row, Transfer

SHARE_S = 20.0
MOST_BUSY_FRAC = 0.05
LEAST_LOG_SD = 0.05
NEWS_LOG = 0.05
"""Forecasts that changed by less are not worth telling."""
BUCKET_LOG_BYTES = math.log(4.0)


class SharingPace:
    """When forecasts are made anew: where something was measured since, and so rarely that it takes a small part of the time.

    `note` news, ask `is_due`, and call `done` once they are made.
    """

    def __init__(self) -> None:
        self.has_news = True
        self._due_s = float("-inf")

    def is_due(self, now_s: float) -> bool:
        return self.has_news and now_s >= self._due_s

    def done(self, began_s: float, now_s: float) -> None:
        self._due_s = now_s + max(SHARE_S, (now_s - began_s) / MOST_BUSY_FRAC)


def shared_forecasts(profiles: Iterable[TaskProfile], catalogue: Mapping[str, Flavor]) -> dict[str, Forecasts]:
    """Task -> (size bucket, accelerator) -> forecast, for every task with a run on an accelerator and every one where it has none."""
    known = {profile.task: profile for profile in profiles}
    rows = [row for profile in known.values() for row in _rows(profile, catalogue)]
    if not rows:
        return {}
    transfer = Transfer(catalogue, rows)
    accelerators = [flavor.name for flavor in catalogue.values() if not flavor.is_cpu]
    found: dict[str, Forecasts] = {}
    measured = {(row.task, row.flavor) for row in rows}
    for profile in known.values():
        dtype, family = _dtype(profile.fingerprint), name_of(profile.task)
        buckets = {bucket for bucket, _, _ in _cells(profile, catalogue)}
        found[profile.task] = {
            (bucket, flavor): transfer.predict(_cell_name(profile, bucket), family, flavor, log_size=_log_size(bucket), dtype=dtype)
            for bucket in buckets
            for flavor in accelerators
            if (_cell_name(profile, bucket), flavor) not in measured
        }
    return {task: forecasts for task, forecasts in found.items() if forecasts}


def is_news(old: Forecasts, new: Forecasts) -> bool:
    """Whether any forecast changed enough to be told."""
    if old.keys() != new.keys():
        return True
    return any(abs(new[key].mean_log - old[key].mean_log) + abs(new[key].log_sd - old[key].log_sd) > NEWS_LOG for key in new)


def _rows(profile: TaskProfile, catalogue: Mapping[str, Flavor]) -> Iterator[Row]:
    dtype, family = _dtype(profile.fingerprint), name_of(profile.task)
    best: dict[tuple[int, str], Row] = {}
    for bucket, variant, flavor in _cells(profile, catalogue):
        seen = profile.measured[(bucket, variant, flavor)]
        num_runs = max(1, min(seen.num_runs, round(seen.weight)))
        log_sd = max(math.sqrt(seen.var), LEAST_LOG_SD)
        row = Row(_cell_name(profile, bucket), family, flavor, seen.mean, num_runs, _log_size(bucket), dtype, log_sd)
        # Of several variants on one accelerator the faster is what would be taken.
        if (bucket, flavor) not in best or row.log_s < best[bucket, flavor].log_s:
            best[bucket, flavor] = row
    yield from best.values()


def _cells(profile: TaskProfile, catalogue: Mapping[str, Flavor]) -> Iterator[tuple[int, str, str]]:
    for bucket, name, flavor in profile.measured:
        variant: Variant | None = profile.variants.get(name)
        if variant is not None and flavor in catalogue and uses_accelerator(variant, catalogue[flavor]):
            yield bucket, name, flavor


def _cell_name(profile: TaskProfile, bucket: int) -> str:
    return f"{profile.task} {bucket}"


def _dtype(seen: Fingerprint) -> str:
    """Whose peaks count: training runs in FP32 unless told otherwise, models that answer in half of it."""
    return "fp16" if seen.phase == "inference" and seen.domain in ("cv", "nlp") else "fp32"


def _log_size(bucket: int) -> float | None:
    return None if bucket < 0 else bucket * BUCKET_LOG_BYTES
