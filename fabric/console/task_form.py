"""Pure: one task as the page shows it: the report that `fabric profile TASK` gives, the ways that a call could take now, its roofline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fabric import sizes
from fabric.capacity import FlavorCapacity
from fabric.console.task_ways import Ways
from fabric.profiling.forecast import commonest
from fabric.profiling.known import Stored, task_report
from fabric.profiling.picture import lines_of
from fabric.routing import RoutingPolicy
from fabric.types import Flavor, is_model_task, name_of
from profiler.estimate import TaskProfile
from profiler.roofline import Cost

NO_MODEL_FLOPS = "its FLOPs are not known, and a roofline needs those"
NO_FLOPS = f"{NO_MODEL_FLOPS}: `fabric profile MODULE:FUNCTION` counts those of torch code, and they are kept"
NO_PEAKS = "no flavor of this fabric has peaks that are known"


def costs_of(models: Any) -> dict[str, Cost]:
    """What one request computes and moves, of the models in an answer of `GET /v1/models` whose file tells; by model and by
    deployment. None: nothing is known of any."""
    names = {each.name for each in dataclasses.fields(Cost)}
    found: dict[str, Cost] = {}
    for model in models["models"] if models else ():
        for version in model["versions"]:
            cost = (version["placement"].get("prior") or {}).get("cost") or {}
            if not (cost.get("flops") and cost.get("moved_bytes")):
                continue
            made = found[version["deployment"]] = Cost(**{key: value for key, value in cost.items() if key in names})
            if version["deployment"] == model["default"]:
                found[model["name"]] = made
    return found


def task_form(
    name: str,
    profiles: Sequence[TaskProfile],
    capacities: Mapping[str, FlavorCapacity],
    catalogue: Mapping[str, Flavor],
    policy: RoutingPolicy,
    costs: Mapping[str, Cost],
) -> dict[str, Any]:
    """`name`: the task's, or `name@hash` for one version of it. Raises: UnknownNameError (`unknown_task`)."""
    twins = frozenset(flavor for flavor, capacity in capacities.items() if capacity.is_twin)
    stored = Stored(tuple(profiles), tuple(capacities), twins)
    profile = stored.must_find(name)
    bucket = commonest(profile)
    own = costs.get(profile.task.partition(":")[2]) if is_model_task(profile.task) else None
    num_cpus = _num_cpus(profile)

    def report_of(one: TaskProfile) -> dict[str, Any]:
        return task_report(name, one, stored, catalogue, own, num_cpus=num_cpus)

    form = report_of(profile)
    # A served model's requests are placed by its roofline, a function's calls by what was measured of it.
    ways, problem = Ways(profile, bucket, catalogue, report_of, own is not None).rows(capacities, policy)
    is_counted = form["flops"] is not None
    lines = [dataclasses.asdict(line) for line in lines_of(form, catalogue)] if is_counted else []
    return {
        **form,
        "task": name_of(profile.task),
        "key": profile.task,
        "runs": profile.num_runs(),
        "versions": [{"key": one.task, "runs": one.num_runs()} for one in profiles if name_of(one.task) == name_of(profile.task)],
        "max_bytes": None if bucket == sizes.UNKNOWN else sizes.max_bytes(bucket),
        "ways": ways,
        "problem": problem,
        "lines": lines,
        "lines_problem": None if lines else _no_lines(profile, is_counted),
    }


def _no_lines(profile: TaskProfile, is_counted: bool) -> str:
    if is_counted:
        return NO_PEAKS
    return NO_MODEL_FLOPS if is_model_task(profile.task) else NO_FLOPS


def _num_cpus(profile: TaskProfile) -> int:
    """What its calls are given on a CPU flavor: their times are of so many."""
    asked = [variant.resources.num_cpus for variant in profile.variants.values() if not variant.resources.uses_accelerator]
    return max(1, *(round(each) for each in asked)) if asked else 1
