"""The figures of a finished simulation, computed from its leases and ends alone, and the lower bounds beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from fabric.sim.events import LeaseLine
from fabric.sim.fairness import worst_rho
from fabric.sim.trace import TraceJob

ROUND_S = 360.0
"""The boundaries of `leases_kept_frac`: Gavel's rounds."""


@dataclass(frozen=True, slots=True)
class Figures:
    """`jct_*`: submission to end, of jobs that succeeded. `makespan_s`: first arrival to last end. `misses`: deadlines not met.
    `utilisation`: leased share of the cluster over the makespan. `restarts`: leases beyond each job's first.
    `leases_kept_frac`: 1 - moves / boundaries of 360 s crossed while running. `worst_fairness`: the largest Themis rho.
    `cost_usd`: None where a price is not known. `failed`: jobs that ended otherwise than well.
    """

    jobs: int
    failed: int
    jct_h: float
    jct_p99_h: float
    makespan_s: float
    cost_usd: float | None
    misses: int
    utilisation: float
    restarts: int
    leases_kept_frac: float
    worst_fairness: float

    def as_json(self) -> dict[str, float | int | None]:
        return asdict(self)


def figures_of(
    jobs: Sequence[TraceJob],
    end_s: Mapping[int, float],
    leases: Sequence[LeaseLine],
    capacity: Mapping[str, float],
    usd_per_h: Mapping[str, float] | None,
) -> Figures:
    """`end_s`: line -> when the job succeeded. Raises: ValueError without jobs."""
    stays = sorted(end_s[job.line] - job.arrival_s for job in jobs if job.line in end_s)
    first_s = min(job.arrival_s for job in jobs)
    makespan_s = max([lease.end_s for lease in leases] + list(end_s.values()), default=first_s) - first_s
    held = sum(lease.gpus * (lease.end_s - lease.start_s) for lease in leases)
    return Figures(
        jobs=len(jobs),
        failed=len(jobs) - len(stays),
        jct_h=sum(stays) / len(stays) / 3600 if stays else 0.0,
        jct_p99_h=quantile(stays, 0.99) / 3600,
        makespan_s=makespan_s,
        cost_usd=None if usd_per_h is None else cost_of(leases, usd_per_h),
        misses=sum(job.deadline_s is not None and end_s.get(job.line, math.inf) > job.deadline_s + 1e-6 for job in jobs),
        utilisation=held / (sum(capacity.values()) * makespan_s) if makespan_s > 0 else 0.0,
        restarts=num_moves(leases),
        leases_kept_frac=kept_frac(leases),
        worst_fairness=worst_rho(jobs, end_s, capacity),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; 0 without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def cost_of(leases: Sequence[LeaseLine], usd_per_h: Mapping[str, float]) -> float:
    return sum(lease.gpus * (lease.end_s - lease.start_s) * usd_per_h[lease.flavor] for lease in leases) / 3600


def num_moves(leases: Sequence[LeaseLine]) -> int:
    return sum(count - 1 for count in Counter(lease.job for lease in leases).values())


def kept_frac(leases: Sequence[LeaseLine]) -> float:
    crossed = sum(int(lease.end_s // ROUND_S) - int(lease.start_s // ROUND_S) for lease in leases)
    return max(0.0, 1.0 - num_moves(leases) / crossed) if crossed else 1.0
