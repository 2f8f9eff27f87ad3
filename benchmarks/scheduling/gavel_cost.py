"""Gavel's cost policy with deadlines (OSDI'20), re-implemented from its source (commit c4fa4009): the policy
`max_sum_throughput_normalized_by_cost_perf_SLOs` and the round mechanism that serves its allocation. It is the peer of `cost.py`.

Kept as in its simulator: rounds of 360 s end at the latest finish in the round, an accelerator whose job ended early idles until
then; the allocation is recomputed when jobs came or went, at most every 1,920 s; nothing is charged for a move; where no
allocation meets all deadlines, all are dropped from that solve. "As published" the mechanism gives accelerators that are left to
jobs whose allocation there is zero; "repaired" skips those (as Gavel does for FIFO), which is cheaper but waits more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from gavel_jobs import FLAVORS, GavelJob

from fabric.scheduler.lp import LinearProgram, solve

ROUND_S = 360.0
RESET_S = 1920.0
LEAST_SHARE = 1e-3


@dataclass(slots=True)
class GavelOutcome:
    """`finish_s`: by job number; `cost_usd`: of all jobs' accelerator time."""

    finish_s: dict[int, float] = field(default_factory=dict)
    cost_usd: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Active:
    job: GavelJob
    steps_left: float
    time_s: dict[str, float]
    share: dict[str, float] = field(default_factory=dict)
    deficit_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FLAVORS, 0.0))


class GavelCostSlo:
    """One run of the policy over `jobs`; single use."""

    def __init__(
        self, jobs: Sequence[GavelJob], capacity: Mapping[str, float], usd_per_h: Mapping[str, float], *, is_repaired: bool
    ) -> None:
        self.queue = sorted(jobs, key=lambda job: job.arrival_s)
        self.capacity, self.usd_per_h, self.is_repaired = capacity, usd_per_h, is_repaired
        self.active: dict[int, _Active] = {}
        self.worker_s = dict.fromkeys(FLAVORS, 0.0)
        self.reset_s = 0.0
        self.has_changed = False
        self.outcome = GavelOutcome()

    def run(self) -> GavelOutcome:
        now_s = 0.0
        while self.queue or self.active:
            while self.queue and self.queue[0].arrival_s <= now_s:
                self._add(self.queue.pop(0))
            chosen = self._choose(now_s)
            if chosen:
                now_s = self._serve(chosen, now_s)
            elif self.queue:
                now_s = self.queue[0].arrival_s
                self.reset_s = 0.0
            elif self.has_changed:
                self.reset_s = 0.0
            else:
                now_s += ROUND_S
        return self.outcome

    def _add(self, job: GavelJob) -> None:
        self.active[job.num] = _Active(job, job.steps, dict.fromkeys(FLAVORS, ROUND_S / 2))
        self.outcome.cost_usd[job.num] = 0.0
        self.has_changed = True

    def _choose(self, now_s: float) -> list[tuple[_Active, str]]:
        """Who runs where in the next round: flavor by flavor, the job furthest behind its share first."""
        if self.has_changed and (now_s - self.reset_s >= RESET_S or self.reset_s == 0.0):
            self._reset(now_s)
        chosen: list[tuple[_Active, str]] = []
        taken: set[int] = set()
        for flavor in FLAVORS:
            left = self.capacity.get(flavor, 0)
            ranked = sorted(self.active.values(), key=lambda one: self._rank(one, flavor), reverse=True)
            for one in ranked:
                if one.job.num in taken or one.job.gpus > left or flavor not in one.job.rates:
                    continue
                if self.is_repaired and one.share.get(flavor, 0.0) < LEAST_SHARE:
                    continue
                left -= one.job.gpus
                taken.add(one.job.num)
                chosen.append((one, flavor))
        return chosen

    def _rank(self, one: _Active, flavor: str) -> tuple[float, float, float]:
        share = one.share.get(flavor, 0.0)
        received = one.time_s[flavor] / self.worker_s[flavor] if self.worker_s[flavor] else 0.0
        return (share / received if received > 0 else share * 1e9, one.deficit_s[flavor], share)

    def _reset(self, now_s: float) -> None:
        elapsed_s = now_s - self.reset_s
        for flavor in FLAVORS:
            self.worker_s[flavor] = 0.0
            for one in self.active.values():
                one.deficit_s[flavor] += one.share.get(flavor, 0.0) * elapsed_s - (one.time_s[flavor] - ROUND_S / 2)
                one.time_s[flavor] = ROUND_S / 2
                self.worker_s[flavor] += ROUND_S / 2
        self.reset_s, self.has_changed = now_s, False
        allocate(list(self.active.values()), self.capacity, self.usd_per_h, now_s)

    def _serve(self, chosen: list[tuple[_Active, str]], now_s: float) -> float:
        end_s = now_s
        for one, flavor in chosen:
            rate = one.job.rates[flavor]
            steps = min(float(int(rate * ROUND_S)), one.steps_left)
            run_s = steps / rate
            one.steps_left -= steps
            one.time_s[flavor] += run_s
            self.worker_s[flavor] += run_s
            self.outcome.cost_usd[one.job.num] += self.usd_per_h[flavor] * one.job.gpus * run_s / 3600
            end_s = max(end_s, now_s + run_s)
            if one.steps_left <= 1e-6:
                self.outcome.finish_s[one.job.num] = now_s + run_s
                del self.active[one.job.num]
                self.has_changed = True
        return end_s


def allocate(active: Sequence[_Active], capacity: Mapping[str, float], usd_per_h: Mapping[str, float], now_s: float) -> None:
    """Set every job's share of time per flavor: max sum of throughput / price, deadlines as least throughputs (or none at all)."""
    if not active:
        return
    n, m = len(active), len(FLAVORS)
    rates = np.array([[one.job.rates.get(flavor, 0.0) for flavor in FLAVORS] for one in active])
    gpus = np.array([one.job.gpus for one in active], dtype=float)
    prices = np.array([usd_per_h[flavor] for flavor in FLAVORS])
    cols = np.arange(n * m)
    job_of, flavor_of = cols // m, cols % m
    floors = np.array([-np.inf if one.job.deadline_s is None else _floor(one, now_s) for one in active])
    for least in (floors, np.full(n, -np.inf)):
        found = solve(
            LinearProgram(
                cost=(rates / prices).ravel(),
                col_lower=np.zeros(n * m),
                col_upper=np.ones(n * m),
                rows=np.concatenate([job_of, n + flavor_of, n + m + job_of]),
                cols=np.concatenate([cols, cols, cols]),
                values=np.concatenate([np.ones(n * m), gpus[job_of], rates.ravel()]),
                row_lower=np.concatenate([np.full(n + m, -np.inf), least]),
                row_upper=np.concatenate([np.ones(n), [capacity.get(flavor, 0.0) for flavor in FLAVORS], np.full(n, np.inf)]),
                is_maximise=True,
            )
        )
        if found is not None:
            break
    assert found is not None, "shares of zero are always allowed"
    for one, shares in zip(active, found.x.reshape(n, m), strict=True):
        one.share = dict(zip(FLAVORS, shares.tolist(), strict=True))


def _floor(one: _Active, now_s: float) -> float:
    """Least steps per second that still meets the deadline; none (as in Gavel: a negative one) once it has passed."""
    left_s = (one.job.deadline_s or 0.0) - now_s
    return one.steps_left / left_s if left_s > 0 else -np.inf
