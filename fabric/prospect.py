"""Where tasks would go now, from their stored profiles: what `fabric explain` shows, without any call being made.

Each answer prints as text and has one JSON form (`as_json`):

    tasks: {tasks: [{task, key, domain, phase, runs, best: {tier, flavor, variant, twin, run_s} or null}]}
    task:  {task, versions: [{key, domain, phase, evidence, runs, sizes: [{bucket, max_bytes, route, problem}]}]}
    call:  {call_id, task, key, measured: {run_s, cpu_s, peak_memory_bytes, cost_usd, node_id, tier, flavor, variant, outcome,
            bucket, user, queue}, route, problem}

`route` is `Explanation.as_json()`, or null where nothing can hold the task now, with the reason in `problem`. A task whose
code changed has several versions, `name@hash` each. `max_bytes` is the largest argument of a size bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fabric import ray_io, sizes
from fabric.client import Client
from fabric.errors import FabricError, UnknownNameError
from fabric.explanation import Explanation
from fabric.show import duration, table, usd
from fabric.sizes import UNKNOWN
from fabric.types import Alternative, Run, name_of
from profiler.estimate import TaskProfile


@dataclass(frozen=True, slots=True)
class Ranking:
    """One size of one task: the route that a call would take now, or why none."""

    bucket: int
    explanation: Explanation | None
    problem: str | None = None

    @property
    def chosen(self) -> Alternative | None:
        return None if self.explanation is None else self.explanation.route.chosen

    def as_json(self) -> dict[str, Any]:
        return {"route": None if self.explanation is None else self.explanation.as_json(), "problem": self.problem}

    def __str__(self) -> str:
        if self.explanation is None:
            return self.problem or ""
        # Nothing was called: an explanation's line about the measured run has nothing to say here.
        return "\n".join(line for line in str(self.explanation).splitlines() if not line.startswith("measured:"))


@dataclass(frozen=True, slots=True)
class TaskList:
    """All tasks, each with its ranking for its commonest size."""

    tasks: tuple[tuple[TaskProfile, Ranking], ...]

    def as_json(self) -> dict[str, Any]:
        return {"tasks": [{**_profile_json(profile), "best": _best_json(ranking.chosen)} for profile, ranking in self.tasks]}

    def __str__(self) -> str:
        if not self.tasks:
            return "no task has been called yet"
        return table(["task", "domain", "phase", "runs", "best", "run"], [_row(*known) for known in self.tasks], right=(3, 5))


@dataclass(frozen=True, slots=True)
class TaskProspect:
    """One task: a ranking for every size that was seen, for each version of its code."""

    task: str
    versions: tuple[tuple[TaskProfile, tuple[Ranking, ...]], ...]

    def as_json(self) -> dict[str, Any]:
        versions = [
            {
                **_profile_json(profile),
                "evidence": list(profile.fingerprint.evidence),
                "sizes": [{"bucket": r.bucket, "max_bytes": max_bytes(r.bucket), **r.as_json()} for r in rankings],
            }
            for profile, rankings in self.versions
        ]
        return {"task": self.task, "versions": versions}

    def __str__(self) -> str:
        parts = []
        for profile, rankings in self.versions:
            if len(self.versions) > 1:
                parts.append(f"version {profile.task}, {profile.num_runs()} runs")
            parts += [f"arguments {_size(r.bucket)}:\n{r}" for r in rankings]
        return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class CallProspect:
    """One finished call: what was measured, and where such a call would go now."""

    run: Run
    tier: str | None
    ranking: Ranking

    @property
    def cost_usd(self) -> float | None:
        """By the price of the flavor that it ran on, which the ranking of now may not have chosen."""
        route = self.ranking.explanation.route if self.ranking.explanation else None
        for other in route.alternatives if route else ():
            if (other.flavor, other.variant) == (self.run.flavor, self.run.variant) and other.cost_usd is not None and other.run_s > 0:
                return other.cost_usd / other.run_s * self.run.wall_s
        return None

    def as_json(self) -> dict[str, Any]:
        run = self.run
        measured = {
            "run_s": run.wall_s,
            "cpu_s": run.cpu_s,
            "peak_memory_bytes": run.peak_memory_bytes,
            "cost_usd": self.cost_usd,
            "node_id": run.node_id,
            "tier": self.tier,
            "flavor": run.flavor,
            "variant": run.variant,
            "outcome": run.outcome,
            "bucket": run.bucket,
            "user": run.user,
            "queue": run.queue,
        }
        return {"call_id": run.call_id, "task": name_of(run.task), "key": run.task, "measured": measured, **self.ranking.as_json()}

    def __str__(self) -> str:
        run = self.run
        figures = f"run {duration(run.wall_s)}, CPU {duration(run.cpu_s)}, peak {run.peak_memory_bytes / 2**20:.0f} MiB"
        place = f"{self.tier or '?'}/{run.flavor}, variant {run.variant}, node {run.node_id[:8]}"
        head = f"call {run.call_id} of {name_of(run.task)} ({run.outcome}), arguments {_size(run.bucket)}"
        return f"{head}\nran on {place}: {figures}, cost {usd(self.cost_usd)}\n\nsuch a call would go now to\n{self.ranking}"


def read_tasks(client: Client) -> TaskList:
    """Every task that the profiler knows."""
    return TaskList(tuple((profile, rank(client, profile, UNKNOWN)) for profile in _profiles(client)))


def read_task(client: Client, name: str) -> TaskProspect:
    """One task, by its name or by `name@hash`. Raises: UnknownNameError `unknown_task`."""
    profiles = _profiles(client)
    wanted = [profile for profile in profiles if name in (profile.task, name_of(profile.task))]
    if not wanted:
        raise UnknownNameError.of("task", name, {name_of(profile.task) for profile in profiles})
    ranked = [(profile, tuple(rank(client, profile, bucket) for bucket in sorted(profile.buckets() or {0}))) for profile in wanted]
    return TaskProspect(name_of(wanted[0].task), tuple(ranked))


def read_call(client: Client, call_id: str) -> CallProspect:
    """One finished call. Raises: UnknownNameError `unknown_call`."""
    run: Run | None = ray_io.ask(ray_io.actor("profiler").run_of.remote(call_id))
    profile = next((p for p in _profiles(client) if run is not None and p.task == run.task), None)
    if run is None or profile is None:
        hint = "not finished, not a call of a task, or older than the last 20,000 calls"
        raise UnknownNameError(f"no measured call {call_id}", code="unknown_call", hint=hint, name=call_id)
    flavor = client.catalogue.get(run.flavor)
    return CallProspect(run, flavor.tier if flavor else None, rank(client, profile, run.bucket))


def rank(client: Client, profile: TaskProfile, bucket: int) -> Ranking:
    """The route that a call of this size would take now."""
    client.profiles[profile.task] = profile
    try:
        plan = client.plan(profile.task, sizes.max_bytes(bucket), profile.variants.values())
        route = plan.route()
    except FabricError as error:
        return Ranking(bucket, None, error.message)
    return Ranking(bucket, Explanation(name_of(profile.task), profile.fingerprint, route, sum=plan.sums.get(route.chosen.variant, "")))


def max_bytes(bucket: int) -> int | None:
    """The largest argument that falls into a bucket (see `fabric.sizes`); None for arguments of unknown size."""
    return None if bucket == UNKNOWN else sizes.max_bytes(bucket)


def _profiles(client: Client) -> list[TaskProfile]:
    client.refresh()
    profiles: list[TaskProfile] = ray_io.ask(ray_io.actor("profiler").profiles.remote())
    return [profile for profile in profiles if profile.variants]


def _profile_json(profile: TaskProfile) -> dict[str, Any]:
    seen = profile.fingerprint
    return {"task": name_of(profile.task), "key": profile.task, "domain": seen.domain, "phase": seen.phase, "runs": profile.num_runs()}


def _best_json(chosen: Alternative | None) -> dict[str, Any] | None:
    if chosen is None:
        return None
    return {"tier": chosen.tier, "flavor": chosen.flavor, "variant": chosen.variant, "twin": chosen.is_twin, "run_s": chosen.run_s}


def _row(profile: TaskProfile, ranking: Ranking) -> list[str]:
    seen, chosen = profile.fingerprint, ranking.chosen
    place = "-" if chosen is None else f"{chosen.tier}/{chosen.flavor}{' twin' if chosen.is_twin else ''}"
    run = "-" if chosen is None else duration(chosen.run_s)
    return [profile.task, seen.domain, seen.phase, str(profile.num_runs()), place, run]


def _size(bucket: int) -> str:
    largest = max_bytes(bucket)
    if largest is None:
        return "of unknown size"
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if largest >= unit:
            return f"up to {largest // unit} {name}"
    return f"up to {largest} B"
