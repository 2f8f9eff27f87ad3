"""Runs a planner over generated jobs on virtual time: arrivals, completions and reviews, leases charged to the second, capacity checked.

The benchmarks' own small executor: one accelerator per unit, no failures. It asks the planner exactly when the product would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gavel_jobs import GavelJob

from fabric.job import JobId, Option
from fabric.scheduler.problem import Objective, Plan, PlanJob, Problem

Planner = Callable[[Problem], Plan]
_TICK_S = 1e-6


@dataclass(slots=True)
class Executed:
    """`finish_s`, `cost_usd`: by job number. `plan_s`: wall time of every call of the planner. `num_moves`: leases given up early."""

    finish_s: dict[int, float] = field(default_factory=dict)
    cost_usd: dict[int, float] = field(default_factory=dict)
    plan_s: list[float] = field(default_factory=list)
    num_moves: int = 0


@dataclass(slots=True)
class _Run:
    job: GavelJob
    options: tuple[Option, ...]
    steps_left: float
    held: Option | None = None
    since_s: float = 0.0
    warm_s: float = 0.0
    at_s: float = 0.0

    def advance(self, now_s: float) -> None:
        if self.held is not None:
            self.steps_left -= max(0.0, now_s - max(self.at_s, self.warm_s)) * self.held.rate
        self.at_s = now_s

    def view(self, now_s: float, restart_s: float) -> PlanJob:
        return PlanJob(
            JobId(str(self.job.num)),
            self.options,
            max(self.steps_left, 0.0),
            self.job.arrival_s,
            deadline_s=self.job.deadline_s,
            held=self.held,
            held_since_s=self.since_s,
            restart_s=restart_s,
            warmup_left_s=max(0.0, self.warm_s - now_s) if self.held else 0.0,
        )


class Execution:
    """One run of `planner`; single use."""

    def __init__(
        self,
        jobs: Sequence[GavelJob],
        capacity: Mapping[str, float],
        usd_per_h: Mapping[str, float],
        planner: Planner,
        *,
        objective: Objective,
        restart_s: float = 0.0,
    ) -> None:
        self.queue = sorted(jobs, key=lambda job: job.arrival_s)
        self.capacity, self.usd_per_h, self.planner = capacity, usd_per_h, planner
        self.objective, self.restart_s = objective, restart_s
        self.active: dict[str, _Run] = {}
        self.review_s: float | None = None
        self.done = Executed(cost_usd={job.num: 0.0 for job in jobs})

    def run(self) -> Executed:
        now_s = 0.0
        while self.queue or self.active:
            while self.queue and self.queue[0].arrival_s <= now_s + _TICK_S:
                self._add(self.queue.pop(0), now_s)
            if self.active:
                self._plan(now_s)
            now_s = max(self._next_s(now_s), now_s + _TICK_S)
            for run in list(self.active.values()):
                run.advance(now_s)
                if run.held is not None and run.steps_left <= run.job.steps * 1e-9 + 1e-6:
                    self.done.finish_s[run.job.num] = now_s
                    self._close(run, now_s)
                    del self.active[str(run.job.num)]
        return self.done

    def _add(self, job: GavelJob, now_s: float) -> None:
        options = tuple(
            Option(0, flavor, job.gpus, float(job.gpus), rate) for flavor, rate in job.rates.items() if job.gpus <= self.capacity[flavor]
        )
        self.active[str(job.num)] = _Run(job, options, job.steps, at_s=now_s)

    def _plan(self, now_s: float) -> None:
        views = [run.view(now_s, self.restart_s) for run in self.active.values()]
        started_s = time.perf_counter()
        plan = self.planner(Problem(now_s, self.objective, views, self.capacity, self.usd_per_h))
        self.done.plan_s.append(time.perf_counter() - started_s)
        used = dict.fromkeys(self.capacity, 0.0)
        for option in plan.run.values():
            used[option.flavor] += option.units
        if any(used[flavor] > self.capacity[flavor] + 1e-9 for flavor in used):
            raise AssertionError(f"over capacity: {used}")
        for name, run in self.active.items():
            if run.held is not None and plan.run.get(JobId(name)) != run.held:
                self._close(run, now_s)
                self.done.num_moves += 1
        for name, run in self.active.items():
            option = plan.run.get(JobId(name))
            if option is not None and run.held is None:
                run.held, run.since_s, run.warm_s = option, now_s, now_s + self.restart_s
        self.review_s = plan.review_s

    def _close(self, run: _Run, now_s: float) -> None:
        if run.held is not None:
            hours = (now_s - run.since_s) / 3600
            self.done.cost_usd[run.job.num] += self.usd_per_h[run.held.flavor] * run.held.units * hours
        run.held = None

    def _next_s(self, now_s: float) -> float:
        times = [self.queue[0].arrival_s] if self.queue else []
        times += [max(run.warm_s, now_s) + run.steps_left / run.held.rate for run in self.active.values() if run.held is not None]
        if self.review_s is not None and self.review_s > now_s:
            times.append(self.review_s)
        if not times:
            raise AssertionError("nothing runs, nothing comes and the planner does not ask to be called again")
        return min(times)
