"""What was predicted of a job that has ended, and what jobs of its family took: predictions beside measurements.

The core is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from fabric import codec
from fabric.job import JobEstimate, JobSpec, Option
from fabric.job_events import JobDispatched
from fabric.plane.watching import key_of
from fabric.scheduler.core import Core
from fabric.scheduler.record import JobRecord
from fabric.types import Estimate

MeasuredOf = Callable[[JobSpec, int, str, int], Estimate | None]
"""See `profiler.families.Families.measured`."""


def never_measured(_spec: JobSpec, _shape: int, _flavor: str, _num_bundles: int) -> Estimate | None:
    return None


def ways_then(
    core: Core, job: JobRecord, taken: str, story: Iterable[Mapping[str, Any]], twins: Collection[str], estimate: JobEstimate | None
) -> list[dict[str, Any]]:
    """A row for each way of a job that ran and has ended. Of the way that its first attempt took, what was predicted when it was
    given that; of the others what `estimate` says now. The flavor that it had last (`taken`) comes first. Nothing is said of waiting,
    and prices are those of now."""
    first = first_given(story)
    if first is None or estimate is None:
        return []
    book, rows = core.book, []
    for way in book.ways.resolve(job.spec, estimate):
        if way.flavor not in book.machines.stocks and way.flavor != taken:
            continue
        was_taken = key_of(way) == key_of(first)
        work, rate = (1.0, first.rate) if was_taken else (estimate.work, way.rate)
        run_s = book.policy.restart_s + work / rate if rate > 0 else None
        has_price = way.flavor in book.standing.prices
        rows.append(
            {
                "key": key_of(way),
                "flavor": way.flavor,
                "tier": book.catalogue[way.flavor].tier,
                "twin": way.flavor in twins,
                "num_bundles": way.num_bundles,
                "units": way.units,
                "wait_s": None,
                "run_s": run_s,
                "run_log_sd": None if run_s is None or was_taken else estimate.log_sd,
                "finish_s": None,
                "cost_usd": run_s * book.standing.usd_per_s(way) if has_price and run_s is not None else None,
                "verdict": "Fit",
                "reason": "",
                "detail": "",
            }
        )
    rows.sort(key=lambda row: (row["flavor"] != taken, row["run_s"] is None, row["run_s"] or 0.0))
    return rows


def first_given(story: Iterable[Mapping[str, Any]]) -> Option | None:
    """What its first attempt was given, with the rate that was predicted then: before it said anything itself, in whole jobs a
    second."""
    for fact in story:
        if fact["kind"] == JobDispatched.__name__:
            return codec.decode(JobDispatched, fact["body"]).grant.option
    return None


def with_measured(rows: Sequence[Mapping[str, Any]], spec: JobSpec, measured_of: MeasuredOf, restart_s: float) -> list[dict[str, Any]]:
    """`measured: {runs, run_s, run_log_sd}` beside what is predicted of a whole job; null where no job of the family has
    succeeded there. As in a prediction, the policy's restart time is in it."""
    found = []
    for row in rows:
        shape, flavor, num_bundles = row["key"]
        seen = measured_of(spec, shape, flavor, num_bundles)
        told = None if seen is None else {"runs": seen.num_runs, "run_s": restart_s + seen.run_s, "run_log_sd": seen.log_sd}
        found.append({**row, "measured": told})
    return found
