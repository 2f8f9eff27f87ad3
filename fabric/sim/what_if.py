"""What would have become of recorded jobs under another policy: the same jobs on the same nodes, simulated under both. Pure.

Invariant: both sides replay the same jobs; whatever is left out is left out of both, and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fabric.errors import UserError
from fabric.policy import Policy
from fabric.sim.cluster import Cluster
from fabric.sim.replay import Recorded
from fabric.sim.scenario import Scenario, simulate
from fabric.sim.trace import TraceJob
from fabric.types import Flavor, Node
from fabric.what_if_form import SIDE_KEYS

USUAL_SIZE = 8
"""Units of a node of a flavor that the fabric has no node of any more."""
PLANS = 2_000
"""At most so many plans are made for each side, evenly over its time: planning is what takes long."""
PLANNING_FRAC = 0.1
"""As `fabric.scheduler.planning.MOST_BUSY_FRAC`: a plan that took t is the last for t divided by this."""
SIDES = ("current", "proposed")


@dataclass(frozen=True, slots=True)
class Question:
    """`nodes`: what the fabric has now; flavors and units that jobs held beyond them are added."""

    catalogue: Mapping[str, Flavor]
    nodes: Sequence[Node]
    current: Policy
    proposed: Policy


def compare(was: Recorded, question: Question, on_progress: Callable[[float], None] = lambda _frac: None) -> dict[str, Any]:
    """The figures of `fabric.what_if_form`, from `jobs` on. `on_progress` is told the part that is done, 0 to 1.

    Raises: UserError (`no_jobs`, `never_starts`: under one of the policies some job would wait for ever).
    """
    cluster = cluster_of(question.nodes, was.most_held, question.catalogue)
    jobs, left_out = _replayed(was, cluster, (question.current, question.proposed))
    if not jobs:
        raise UserError("none of the jobs that were recorded can be replayed", code="no_jobs", hint="ask for a longer time: --since 7d")
    span_s = max(job.arrival_s for job in jobs) - min(job.arrival_s for job in jobs)
    found: dict[str, Any] = {}
    for done, name in enumerate(SIDES):

        def on_time(_now_s: float, num_left: int, done: int = done) -> None:
            on_progress((done + 1.0 - num_left / len(jobs)) / len(SIDES))

        scenario = Scenario(jobs, cluster, getattr(question, name), plan_s=PLANNING_FRAC * span_s / PLANS)
        found[name] = _side(scenario, on_time, name)
    return {
        "jobs": len(jobs),
        "left_out": sum(left_out.values()),
        "left_out_why": dict(left_out),
        "recorded": {"jct_h": was.jct_h, "makespan_s": was.makespan_s},
        **found,
    }


def cluster_of(nodes: Iterable[Node], most_held: Mapping[str, int], catalogue: Mapping[str, Flavor]) -> Cluster:
    """The nodes as they are, in whole units of their flavors, and more of them where jobs once held more."""
    sizes: dict[str, list[int]] = {}
    for node in nodes:
        flavor = catalogue.get(node.flavor)
        if flavor is not None and node.health == "ready":
            units = math.floor(node.total.get(flavor.resource or "CPU", 0.0) / flavor.units + 1e-9)
            sizes.setdefault(node.flavor, []).extend([units] if units else [])
    for name, units in most_held.items():
        have = sizes.setdefault(name, [])
        size = max(have, default=USUAL_SIZE)
        have += [size] * math.ceil(max(0, units - sum(have)) / size)
    sizes = {name: found for name, found in sizes.items() if found}
    return Cluster({name: sum(found) for name, found in sizes.items()}, USUAL_SIZE, catalogue, sizes)


def _replayed(was: Recorded, cluster: Cluster, policies: Sequence[Policy]) -> tuple[list[TraceJob], Counter[str]]:
    """The jobs that both sides can run, and why others are left out."""
    left_out: Counter[str] = Counter({"not_succeeded": was.num_left_out, "too_many": was.num_too_many})
    kept: list[TraceJob] = []
    queues = [{queue.name for queue in policy.queues} for policy in policies]
    for job in was.jobs:
        rates = {flavor: rate for flavor, rate in job.rates.items() if flavor in cluster.capacity}
        here = replace(job, rates=rates)
        if not all(job.queue in known or known == {"default"} for known in queues):
            left_out["unknown_queue"] += 1
        elif not rates or not _fits(here, cluster):
            left_out["no_room"] += 1
        else:
            kept.append(here)
    lines = {job.line for job in kept}
    return [replace(job, after=tuple(line for line in job.after if line in lines)) for job in kept], +left_out


def _fits(job: TraceJob, cluster: Cluster) -> bool:
    try:
        cluster.check_fits(job)
    except UserError:
        return False
    return True


def _side(scenario: Scenario, on_time: Callable[[float, int], None], name: str) -> dict[str, Any]:
    try:
        figures = simulate(scenario, on_time).figures.as_json()
    except UserError as error:
        which = "the policy in force" if name == "current" else "the proposed policy"
        raise UserError(f"under {which}: {error.message}", code=error.code, hint=error.hint) from error
    return {key: figures["utilisation" if key == "utilisation_frac" else key] for key in SIDE_KEYS}
