"""Checks a simulation from outside: its leases against the trace, its figures against the leases. Trusts neither.

Shares no code with the engine: rates come from the trace, times from the leases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from fabric.job import SCALING
from fabric.sim.events import LeaseLine
from fabric.sim.trace import TraceJob

RELATIVE = 1e-6
SECOND_FRAC = 1e-4
"""Two leases may overlap by so much of a second: times are sums of floats."""


def problems(
    jobs: Sequence[TraceJob],
    leases: Sequence[LeaseLine],
    capacity: Mapping[str, float],
    *,
    restart_s: float = 0.0,
    figures: Mapping[str, float | int | None] | None = None,
    usd_per_h: Mapping[str, float] | None = None,
) -> list[str]:
    """What is wrong, in words; empty: nothing. `figures`: those that were reported, compared where they are given."""
    by_job: dict[int, list[LeaseLine]] = defaultdict(list)
    for lease in leases:
        by_job[lease.job].append(lease)
    found = [*_over_capacity(leases, capacity)]
    for job in jobs:
        found += _of_job(job, sorted(by_job.pop(job.line, []), key=lambda lease: lease.start_s), restart_s)
    found += [f"lease of job {line}, which the trace does not have" for line in by_job]
    if figures is not None:
        found += _of_figures(jobs, leases, capacity, figures, usd_per_h)
    return found


def _over_capacity(leases: Sequence[LeaseLine], capacity: Mapping[str, float]) -> Iterator[str]:
    changes: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for lease in leases:
        # A touch short, so that a lease that begins where another ends does not overlap it by a rounding error.
        changes[lease.flavor] += [(lease.start_s, lease.gpus), (lease.end_s - SECOND_FRAC, -lease.gpus)]
    for flavor, steps in changes.items():
        used = 0.0
        for at_s, change in sorted(steps):
            used += change
            if used > capacity.get(flavor, 0.0) + RELATIVE:
                yield f"{used:g} of {capacity.get(flavor, 0.0):g} {flavor} in use at {at_s:.3f} s"
                break


def _of_job(job: TraceJob, leases: Sequence[LeaseLine], restart_s: float) -> Iterator[str]:
    done, before_s = 0.0, job.arrival_s
    for lease in leases:
        if lease.start_s < before_s - SECOND_FRAC:
            yield f"job {job.line} starts at {lease.start_s:.3f} s, before {before_s:.3f} s"
        most = _rate(job, lease) * max(0.0, lease.end_s - lease.start_s - restart_s)
        if lease.steps > most * (1 + RELATIVE) + RELATIVE * job.work:
            yield f"job {job.line} does {lease.steps:g} steps on {lease.flavor} where {most:g} are possible"
        done, before_s = done + lease.steps, lease.end_s
    if abs(done - job.work) > RELATIVE * job.work:
        yield f"job {job.line} has done {done:g} of {job.work:g} steps"


def _rate(job: TraceJob, lease: LeaseLine) -> float:
    """What the lease could do; 0 where its size is not one of the job's."""
    size = lease.gpus / job.shape.accelerators
    if size not in job.shape.sizes():
        return 0.0
    return job.rates.get(lease.flavor, 0.0) * float((size / job.shape.num_bundles) ** SCALING)


def _of_figures(
    jobs: Sequence[TraceJob],
    leases: Sequence[LeaseLine],
    capacity: Mapping[str, float],
    figures: Mapping[str, float | int | None],
    usd_per_h: Mapping[str, float] | None,
) -> Iterator[str]:
    for name, value in measured(jobs, leases, capacity, usd_per_h).items():
        told = figures.get(name)
        if told is not None and abs(told - value) > RELATIVE * max(1.0, abs(value)):
            yield f"{name} is {value:g}, reported as {told:g}"


def measured(
    jobs: Sequence[TraceJob], leases: Sequence[LeaseLine], capacity: Mapping[str, float], usd_per_h: Mapping[str, float] | None
) -> dict[str, float]:
    """The figures that leases alone tell, each job's end being that of its last lease."""
    end_s: dict[int, float] = {}
    num_leases: dict[int, int] = defaultdict(int)
    held = usd = 0.0
    crossed = 0
    for lease in leases:
        end_s[lease.job] = max(lease.end_s, end_s.get(lease.job, 0.0))
        num_leases[lease.job] += 1
        gpu_s = lease.gpus * (lease.end_s - lease.start_s)
        held += gpu_s
        usd += gpu_s / 3600 * usd_per_h[lease.flavor] if usd_per_h else 0.0
        crossed += int(lease.end_s / 360) - int(lease.start_s / 360)
    stays = sorted(end_s[job.line] - job.arrival_s for job in jobs if job.line in end_s)
    makespan_s = max(end_s.values()) - min(job.arrival_s for job in jobs)
    moves = sum(num_leases.values()) - len(num_leases)
    found = {
        "jct_h": sum(stays) / len(stays) / 3600,
        "jct_p99_h": stays[-(-99 * len(stays) // 100) - 1] / 3600,
        "makespan_s": makespan_s,
        "misses": sum(job.deadline_s is not None and end_s.get(job.line, 1e18) > job.deadline_s + 1e-6 for job in jobs),
        "utilisation": held / sum(capacity.values()) / makespan_s,
        "restarts": moves,
        "leases_kept_frac": max(0.0, 1 - moves / crossed) if crossed else 1.0,
    }
    return found | ({"cost_usd": usd} if usd_per_h else {})
