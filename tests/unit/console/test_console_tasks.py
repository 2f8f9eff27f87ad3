"""Tasks on the console: who sees them, the list, one task's ways with what was measured, its roofline, and a profiler that is away."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fabric.capacity import capacities
from fabric.console.known_tasks import KnownTasks
from fabric.console.task_form import NO_FLOPS, NO_MODEL_FLOPS, costs_of, task_form
from fabric.errors import UnavailableError
from fabric.profiling.known import Stored, task_report
from fabric.routing import RoutingPolicy
from fabric.types import Fingerprint, Flavor, PoolSnapshot, Resources, Variant
from profiler.estimate import Measured, TaskProfile
from profiler.roofline import Cost
from tests.console_world import ConsoleWorld, Pools, a_console
from tests.fleet import ANY_CPU, BIG, CPUS, FLAVORS, ONE_GPU

COST = {"flops": 8e9, "moved_bytes": 1e8, "dtype": "fp16", "weights_bytes": 0, "memory_bytes": 0, "num_kernels": 50}
WARM = Flavor("small", "warm", "gpu", "nvidia-tesla", "GPU", peak_flops={"fp16": 65e12}, bandwidth_bytes_per_s=0.3e12, usd_per_h=0.36)
KNOWN = {**FLAVORS, "small": WARM, "big": Flavor("big", "hot", "gpu", "x", "GPU", peak_flops={"fp16": 312e12}, bandwidth_bytes_per_s=2e12)}


def seen(run_s: float, runs: int = 20) -> Measured:
    return Measured(float(runs), math.log(run_s), 0.01, runs, 2**20)


def embed(key: str = "embed@1", runs: int = 20) -> TaskProfile:
    measured = {(3, "cuda", "big"): seen(0.01, runs), (3, "cpu", "cpu"): seen(0.5, runs), (9, "cpu", "cpu"): seen(40.0, 2)}
    return TaskProfile(key, Fingerprint("nlp", "inference", ("imports torch",)), {"cuda": ONE_GPU, "cpu": ANY_CPU}, measured)


def served() -> TaskProfile:
    kinds = {kind: Variant(kind, kind, Resources(num_cpus=1)) for kind in ("gpu", "cpu")}
    return TaskProfile("model:net.v2", Fingerprint("cv"), kinds, {(3, "gpu", "small"): seen(0.001)})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ConsoleWorld]:
    with a_console(tmp_path) as made:
        made.pools.profiles = [embed(), TaskProfile("described@0"), embed("embed@2", 3), served()]
        yield made


def form_of(name: str, *profiles: TaskProfile, costs: dict[str, Cost] | None = None) -> dict[str, Any]:
    nodes = (BIG, CPUS)
    there = capacities([PoolSnapshot(node.tier, 1, (node,)) for node in nodes], KNOWN)
    return task_form(name, profiles, there, KNOWN, RoutingPolicy(), costs or {})


# -- the list


def test_tasks_are_listed_by_runs_with_what_each_flavor_took(world: ConsoleWorld) -> None:
    listed = world.see("root", "/v1/console/tasks")
    assert [(row["task"], row["key"], row["runs"]) for row in listed["tasks"]] == [
        ("embed", "embed@1", 42), ("model:net.v2", "model:net.v2", 20), ("embed", "embed@2", 8),
    ]  # fmt: skip
    assert listed["total"] == 3 and listed["now_s"] > 0
    first = listed["tasks"][0]
    assert (first["domain"], first["phase"]) == ("nlp", "inference")
    assert first["flavors"] == {"big": {"runs": 20, "run_s": pytest.approx(0.01)}, "cpu": {"runs": 22, "run_s": pytest.approx(0.5)}}


def test_the_list_is_narrowed_sorted_and_cut(world: ConsoleWorld) -> None:
    keys = lambda query: [row["key"] for row in world.see("root", f"/v1/console/tasks{query}")["tasks"]]  # noqa: E731
    assert keys("?text=SMALL") == keys("?text=cv") == ["model:net.v2"] and keys("?text=nothing") == []
    assert keys("?sort=task") == ["embed@1", "embed@2", "model:net.v2"] and keys("?descending=true")[0] == "embed@2"
    assert keys("?sort=run_s")[0] == "model:net.v2" and keys("?offset=1&limit=1") == ["model:net.v2"]
    assert world.see("root", "/v1/console/tasks?sort=nope", status=400)["code"] == "unknown_sort"


def test_tasks_are_seen_with_the_scope_read_and_by_no_token_that_is_bound_to_queues(world: ConsoleWorld) -> None:
    for token, sees in (
        (world.token_of("ann", "submit"), False),
        (world.token_of("ann", "read"), True),
        (world.token_of("ann", "read", queues=("default",)), False),
    ):
        assert ("tasks" in world.see(token, "/v1/console/overview")["panels"]) == sees
        for page in ("tasks", "tasks/embed"):
            answer = world.see(token, f"/v1/console/{page}", status=200 if sees else 403)
            assert sees or answer["code"] == "forbidden"
    assert world.see("nonsense", "/v1/console/tasks", status=401)["code"] == "unauthorized"


def test_a_task_that_nobody_knows_is_not_there(world: ConsoleWorld) -> None:
    answer = world.see("root", "/v1/console/tasks/embedd", status=404)
    assert (answer["code"], answer["hint"]) == ("unknown_task", "did you mean embed?")


def test_names_with_slashes_and_markup_are_found(world: ConsoleWorld) -> None:
    name = 'a/b <img src=x onerror=alert(1)> "?#%'
    world.pools.profiles = [embed(f"{name}@1")]
    assert world.see("root", f"/v1/console/tasks/{quote(name, safe='')}")["task"] == name


# -- the profiler is asked, and away


def test_the_profiler_is_asked_when_somebody_looks_and_for_a_hundredth_of_the_time() -> None:
    class Counting(Pools):
        num_asked = 0

        def task_profiles(self) -> Any:
            Counting.num_asked += 1
            clock.now_s += 0.2
            return super().task_profiles()

    class Clock:
        now_s = 0.0

        def __call__(self) -> float:
            return self.now_s

    clock = Clock()
    known = KnownTasks(Counting(), clock)
    assert Counting.num_asked == 0
    asked = []
    for at_s in (0.0, 5.0, 19.0, 20.5):
        clock.now_s = at_s
        known.rows()
        asked.append(Counting.num_asked)
    assert asked == [1, 1, 1, 2]


def test_a_profiler_that_is_away_leaves_what_was_known(world: ConsoleWorld) -> None:
    tasks = KnownTasks(world.pools, lambda: clock_s)
    clock_s, away = 0.0, UnavailableError("no profiler")
    known, world.pools.profiles = world.pools.profiles, away
    with pytest.raises(UnavailableError):
        tasks.profiles()
    assert world.see("root", "/v1/console/tasks", status=503)["message"] == "no profiler"
    world.pools.profiles = known
    assert len(tasks.profiles()) == 3
    clock_s, world.pools.profiles = 1e6, away
    assert len(tasks.profiles()) == len(tasks.rows()) == 3


# -- one task


def test_a_task_is_told_as_fabric_profile_tells_it(world: ConsoleWorld) -> None:
    shown = world.see("root", "/v1/console/tasks/embed")
    flavors = tuple(capacities(world.console.follower.snapshots.values(), FLAVORS))
    stored = Stored(tuple(world.pools.profiles), flavors, frozenset())  # type: ignore[arg-type]
    told = task_report("embed", embed(), stored, FLAVORS)
    assert {key: shown[key] for key in told} == told
    assert (shown["key"], shown["runs"], shown["max_bytes"]) == ("embed@1", 42, 256 * 4**3)
    assert shown["versions"] == [{"key": "embed@1", "runs": 42}, {"key": "embed@2", "runs": 8}]


def test_each_way_has_prediction_and_measurement_side_by_side() -> None:
    form = form_of("embed", embed())
    (gpu, cpu, *others) = form["ways"]
    assert (gpu["flavor"], gpu["variant"], gpu["chosen"], gpu["wait_s"], gpu["reason"]) == ("big", "cuda", True, 0.0, None)
    assert (cpu["flavor"], cpu["chosen"]) == ("cpu", False)
    assert gpu["run_s"] == pytest.approx(0.01, rel=0.05) and gpu["measured"]["run_s"] == pytest.approx(0.01)
    assert (gpu["measured"]["runs"], gpu["measured"]["peak_memory_bytes"]) == (20, 2**20)
    # Had it never run on the GPU, the CPU's runs alone would speak, and with much doubt.
    assert gpu["foretold_s"] != pytest.approx(0.01, rel=0.3) and gpu["foretold_log_sd"] > 0.5 > gpu["run_log_sd"]
    assert cpu["measured"]["cost_usd"] == pytest.approx(cpu["cost_usd"], rel=0.05)
    assert all(way["measured"] is None for way in others)
    assert (form["lines"], form["lines_problem"]) == ([], NO_FLOPS)


def test_nothing_is_foretold_where_nothing_else_was_measured() -> None:
    alone = embed()
    alone.measured = {(3, "cpu", "cpu"): seen(0.5)}
    (way,) = [way for way in form_of("embed", alone)["ways"] if way["measured"]]
    assert (way["foretold_s"], way["foretold_log_sd"]) == (None, None)


def test_what_ran_where_no_node_is_any_more_is_still_shown() -> None:
    gone = embed()
    gone.measured[3, "cuda", "small"] = seen(0.02)
    last = form_of("embed", gone)["ways"][-1]
    assert (last["flavor"], last["tier"], last["reason"], last["run_s"], last["wait_s"]) == ("small", "warm", "NoNodes", None, None)
    assert last["measured"]["run_s"] == pytest.approx(0.02) and last["measured"]["cost_usd"] is None


def test_a_task_that_fits_nowhere_says_so_and_keeps_what_was_measured() -> None:
    large = embed()
    large.variants = {"cuda": Variant("cuda", "", Resources(num_gpus=64)), "cpu": Variant("cpu", "cpu", Resources(num_cpus=640))}
    form = form_of("embed", large)
    assert form["problem"] and [way["reason"] for way in form["ways"]] == ["NoVariant", "NoVariant"]


def test_a_busy_flavor_is_waited_for() -> None:
    busy = dataclasses.replace(BIG, used={"GPU": 1.0})
    there = capacities([PoolSnapshot("hot", 1, (busy,)), PoolSnapshot("cold", 1, (CPUS,))], KNOWN)
    form = task_form("embed", [embed()], there, KNOWN, RoutingPolicy(), {})
    (gpu,) = [way for way in form["ways"] if (way["variant"], way["flavor"]) == ("cuda", "big")]
    assert gpu["wait_s"] > 0


# -- its roofline


def test_the_roofline_of_a_served_model_has_its_measured_and_predicted_points() -> None:
    form = form_of("model:net.v2", served(), costs={"net.v2": Cost(**COST)})
    assert form["lines_problem"] is None and form["flops"] == 8e9
    (line,) = form["lines"]  # of the flavors here, one has peaks and a bandwidth
    assert (line["name"], line["is_measured"], line["intensity"]) == ("big", False, pytest.approx(80.0))
    assert line["reached_flops"] == pytest.approx(8e9 / line["run_s"]) and line["reached_flops"] < 312e12
    (gpu,) = [way for way in form["ways"] if way["variant"] == "gpu" and way["flavor"] == "big"]
    assert gpu["run_s"] == pytest.approx(line["run_s"])


def test_work_of_a_cpu_variant_is_not_predicted_by_the_accelerators_roofline() -> None:
    ways = form_of("model:net.v2", served(), costs={"net.v2": Cost(**COST)})["ways"]
    (borrowed,) = [way for way in ways if way["variant"] == "cpu" and way["flavor"] == "big"]
    (own,) = [way for way in ways if way["variant"] == "gpu" and way["flavor"] == "big"]
    assert borrowed["run_s"] > 5 * own["run_s"]


def test_costs_are_read_of_the_models_whose_file_tells() -> None:
    def version(name: str, cost: Any) -> dict[str, Any]:
        return {"deployment": name, "placement": {"prior": {"cost": cost, "domain": "cv"}}}

    models = {
        "models": [
            {"name": "net", "default": "net.v2", "versions": [version("net.v2", COST), version("net.v1", None)]},
            {"name": "own", "default": "own.v1", "versions": [{"deployment": "own.v1", "placement": {}}]},
        ]
    }
    assert costs_of(models) == {"net.v2": Cost(**COST), "net": Cost(**COST)} and costs_of(None) == {}


def test_a_served_model_without_a_cost_has_no_roofline() -> None:
    assert form_of("model:net.v2", served())["lines_problem"] == NO_MODEL_FLOPS


def test_a_function_whose_flops_were_counted_has_a_roofline_and_is_still_routed_by_its_runs() -> None:
    counted = embed()
    counted.costs[3] = Cost(**COST)
    form = form_of("embed", counted)
    (line,) = form["lines"]
    assert (line["name"], line["is_measured"], line["run_s"]) == ("big", True, pytest.approx(0.01))
    assert (form["flops"], form["lines_problem"]) == (8e9, None)
    assert [way["run_s"] for way in form["ways"]] == [way["run_s"] for way in form_of("embed", embed())["ways"]]


def test_flops_of_another_size_of_argument_draw_nothing() -> None:
    counted = embed()
    counted.costs[9] = Cost(**COST)
    assert (form_of("embed", counted)["lines"], form_of("embed", counted)["lines_problem"]) == ([], NO_FLOPS)
