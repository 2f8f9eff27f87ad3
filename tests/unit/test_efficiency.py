"""Asked for against used: the arithmetic, the words, and a real job from its process to the table. No Ray."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.byte_sizes import parse_bytes
from fabric.efficiency import Tally, fitting_cpus, fitting_memory
from fabric.efficiency_form import (
    EFFICIENCY_ROW_KEYS,
    JOB_EFFICIENCY_KEYS,
    job_hints,
    render_efficiency,
    task_hints,
)
from fabric.errors import UnavailableError
from fabric.job import AttemptUse
from fabric.jobs import job
from fabric.running.gpu_use import GpuWatch
from fabric.types import Resources, Run, Variant
from profiler.efficiency import TaskUse, task_uses
from profiler.estimate import TaskProfile
from tests.api_world import World, a_world
from tests.fleet import COLD, HOT, node

GIB = 2**30
UNTIL_S = 60.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("efficiency")) as made:
        yield made


def row_of(use: AttemptUse, cost_usd: float | None) -> dict[str, Any]:
    tally = Tally()
    tally.add_job(use, cost_usd)
    return tally.as_row("train")


# -- jobs ------------------------------------------------------------------------------------------------------------------


def test_a_cpu_job_wastes_the_cpus_that_stood_idle() -> None:
    row = row_of(AttemptUse(100.0, cpu_asked_s=400.0, cpu_s=100.0, memory_bytes=16 * GIB, peak_memory_bytes=3 * GIB), 2.0)
    assert (row["cpus_asked"], row["cpus_used"], row["cpu_frac"], row["memory_frac"]) == (4.0, 1.0, 0.25, pytest.approx(3 / 16))
    assert (row["cost_usd"], row["wasted_usd"]) == (2.0, 1.5)
    cpus, memory = job_hints(row, is_accelerated=False)
    assert cpus == "asks for 4 CPUs, uses 1: cpus=1 would save $1.50 per run"
    assert memory == "asks for 16 GiB, uses 3 GiB at its peak: memory='4GiB' would leave 12 GiB to others"


def test_a_gpu_job_wastes_the_time_in_which_its_gpu_was_idle_and_nothing_is_said_of_one_that_nobody_measured() -> None:
    busy = AttemptUse(100.0, 400.0, 390.0, accelerator_asked_s=100.0, gpu_seen_s=50.0, gpu_busy_s=5.0)
    row = row_of(busy, 3.0)
    assert row["gpu_frac"] == pytest.approx(0.1) and row["wasted_usd"] == pytest.approx(2.7)
    assert job_hints(row, is_accelerated=True)[0].startswith("its GPU was busy for 10 % of the time, $2.70 of $3.00 was for nothing")
    unseen = row_of(AttemptUse(100.0, 400.0, 390.0, accelerator_asked_s=100.0), 3.0)
    assert (unseen["gpu_frac"], unseen["wasted_usd"], job_hints(unseen, is_accelerated=True)) == (None, None, [])


def test_more_than_was_asked_for_is_shown_and_saves_nothing() -> None:
    row = row_of(AttemptUse(10.0, cpu_asked_s=10.0, cpu_s=25.0), 1.0)
    assert (row["cpu_frac"], row["wasted_usd"], job_hints(row, is_accelerated=False)) == (2.5, 0.0, [])


def test_hints_of_a_gang_are_for_each_of_its_processes() -> None:
    row = row_of(AttemptUse(10.0, cpu_asked_s=160.0, cpu_s=80.0), None)
    (hint,) = job_hints(row, is_accelerated=True, num_ranks=4)
    assert hint == "each process asks for 4 CPUs, uses 2: cpus=2 leaves the others to those who wait"


def test_without_a_price_there_are_no_dollars() -> None:
    row = row_of(AttemptUse(10.0, cpu_asked_s=40.0, cpu_s=1.0), None)
    assert (row["cost_usd"], row["wasted_usd"]) == (None, None)
    assert job_hints(row, is_accelerated=False) == ["asks for 4 CPUs, uses 0.1: cpus=0.2 leaves the others to those who wait"]


@given(st.integers(2**20, 2**45), st.floats(0.0, 512.0))
def test_what_is_suggested_holds_the_peak_and_can_be_written(peak_bytes: int, used: float) -> None:
    fitting, cpus = fitting_memory(peak_bytes), fitting_cpus(used)
    assert 1.2 * peak_bytes <= fitting <= 1.2 * peak_bytes + 2**29 and used - 0.15 <= cpus <= max(0.2, used + 1.0)
    row = row_of(AttemptUse(1.0, 1.0, 1.0, memory_bytes=2 * fitting, peak_memory_bytes=peak_bytes), None)
    (hint,) = job_hints(row, is_accelerated=False)
    assert parse_bytes(hint.partition("memory='")[2].partition("'")[0]) == pytest.approx(fitting, rel=1e-6)


# -- tasks -----------------------------------------------------------------------------------------------------------------


def test_a_task_pays_for_its_dominant_share_of_the_node_and_wastes_what_it_does_not_use_of_it() -> None:
    tally, cpus = Tally(), node("c1", COLD, CPU=4.0, memory=float(16 * GIB))
    tally.add_runs(1000, 3600.0, 1800.0, 2 * GIB, Resources(num_cpus=1.0, memory_bytes=8 * GIB), cpus, COLD)
    row = tally.as_row("embed")
    hour_usd = 4 * 0.036  # half of the node's memory is half of its price; an eighth was needed, and an eighth of the CPUs
    assert (row["cost_usd"], row["wasted_usd"]) == (pytest.approx(hour_usd / 2), pytest.approx(hour_usd * 3 / 8))
    assert (row["cpu_frac"], row["memory_frac"], row["runs"]) == (0.5, 0.25, 1000)
    assert task_hints(row)[0] == (
        "asks for 8 GiB, uses 2 GiB at its peak: memory=2560 * 2**20 or resources='auto' would save up to $0.05 per 1,000 calls"
    )


def test_an_accelerator_that_nobody_measures_counts_as_used() -> None:
    tally, gpus = Tally(), node("g1", HOT, CPU=8.0, GPU=1.0)
    tally.add_runs(1, 3600.0, 1.0, 0, Resources(num_cpus=1.0, num_gpus=1.0), gpus, HOT)
    assert (tally.cost_usd, tally.wasted_usd) == (3.6, 0.0)


def test_what_a_twin_sleeps_is_no_idle_cpu() -> None:
    tally, twin = Tally(), node("c1", COLD, CPU=4.0)
    twin = type(twin)(**{**{name: getattr(twin, name) for name in twin.__slots__}, "slowdown": 4.0})
    tally.add_runs(1, 40.0, 10.0, 0, Resources(num_cpus=1.0), twin, COLD)
    assert tally.cpu_frac == pytest.approx(1.0) and tally.as_row("t")["cpus_asked"] == pytest.approx(1.0)


def test_runs_are_summed_up_with_what_their_variant_asks_for_and_unknown_ones_left_out() -> None:
    asked = Resources(2.0)
    profiles = {"f@1": TaskProfile("f@1", variants={"cpu": Variant("cpu", "", asked)})}
    rows = [("f@1", "cpu", "ok", "ann"), ("f@1", "cpu", "error", "ann"), ("f@1", "cpu", "ok", "bob"), ("f@1", "gone", "ok", "ann")]
    runs = [Run("c", task, 0, variant, "cpu", "n1", 2.0, 1.0, 5, outcome, user, "q") for task, variant, outcome, user in rows]  # type: ignore[arg-type]
    assert task_uses(runs, profiles) == [
        TaskUse("f@1", "cpu", "cpu", "n1", "ann", "q", asked, 2, 4.0, 2.0, 5),
        TaskUse("f@1", "cpu", "cpu", "n1", "bob", "q", asked, 1, 2.0, 1.0, 5),
    ]


# -- GPUs ------------------------------------------------------------------------------------------------------------------


class PlayedNvml:
    """Two cards, the second of which has no utilisation of its own."""

    class NVMLError(Exception): ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index > 1:
            raise self.NVMLError
        return index

    def nvmlDeviceGetMemoryInfo(self, card: int) -> Any:
        return SimpleNamespace(used=(card + 1) * GIB, total=80 * GIB)

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Any:
        if card:
            raise self.NVMLError
        return SimpleNamespace(gpu=25)


def test_a_card_is_watched_from_look_to_look_and_one_that_does_not_answer_is_no_zero() -> None:
    watch = GpuWatch("0,1,7", PlayedNvml())
    for now_s in (10.0, 10.2, 12.0, 14.0):
        watch.look(now_s)
    assert (watch.busy_s, watch.peak_memory_bytes, watch.memory_bytes) == (1.0, 2 * GIB, 80 * GIB)
    assert watch.seen_s == 4.0, "the second card had no utilisation to see"
    blind = GpuWatch("", None)
    blind.look(1.0)
    assert (blind.seen_s, blind.busy_s, blind.memory_bytes) == (None, None, None)


# -- from the process to the table -----------------------------------------------------------------------------------------


def test_a_job_that_asks_for_two_cpus_and_uses_one_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    spin = "import time\nwhile time.process_time() < 1.0: pass"
    made: Any = world.jobs("ann").submit(job([sys.executable, "-c", spin], cpus=2, memory="4GiB", name="spin"))
    assert made.wait(UNTIL_S) == "SUCCEEDED"
    answer = made.efficiency()
    form = answer.as_json()
    assert set(form) == JOB_EFFICIENCY_KEYS and form["job"]["name"] == "spin"
    assert form["cpus_asked"] == pytest.approx(2.0) and form["cpus_used"] * form["wall_s"] == pytest.approx(1.0, rel=0.3)
    assert form["cpu_frac"] < 0.65, "one of two, and less where the machine is busy"
    assert 4 * 2**20 < form["memory_peak_bytes"] < GIB and form["memory_asked_bytes"] == 4 * GIB
    assert form["cost_usd"] > 0 and form["wasted_usd"] == pytest.approx(form["cost_usd"] * (1 - form["cpu_frac"]))
    assert "hint: asks for 4 GiB, uses " in str(answer) and "the difference cost $" in str(answer)
    assert max(map(len, str(answer).splitlines())) <= 120
    assert answer.as_json() == json.loads(json.dumps(form))


def test_a_callable_is_measured_too(world: World) -> None:
    made: Any = world.jobs("ann").submit(job(sum, [1, 2], name="tiny"))
    assert made.result(UNTIL_S) == 3
    assert made.efficiency().as_json()["jobs"] == 1


def test_what_has_not_ended_is_not_measured_yet(world: World) -> None:
    made: Any = world.jobs("ann").submit(job("sleep 60", name="sleeper"))
    world.until_running(made.id)
    assert str(made.efficiency()).endswith("it is measured when an attempt ends")
    made.cancel()
    made.wait(UNTIL_S)
    assert made.efficiency().as_json()["jobs"] == 1, "one that was cancelled held what it asked for, too"


def test_rows_come_by_user_queue_and_task_and_each_sees_their_own(world: World) -> None:
    world.plane._task_uses = lambda: [
        TaskUse("embed@1", "cpu", "cpu", "gone", user, "default", Resources(1.0), 10, 3600.0, 360.0) for user in ("ann", "root")
    ]
    made: Any = world.jobs("ann").submit(job("true"))
    made.wait(UNTIL_S)
    world.plane.nodes = {each.node_id: each for each in (node("cpus-1", COLD, CPU=8.0),)}

    def rows(user: str, by: str) -> list[Any]:
        form = json.loads(world.ask(user, "GET", f"/v1/efficiency?by={by}").body)
        assert form["problem"] is None and all(set(row) == EFFICIENCY_ROW_KEYS for row in form["rows"])
        assert "hint" in render_efficiency(form) or by != "task"
        return [(row["name"], row["runs"]) for row in form["rows"]]

    assert rows("ann", "user") == [("ann", 10)] and rows("ann", "task") == [("embed", 10)]
    assert set(rows("bob", "user")) == {("ann", 10), ("root", 10)} and rows("bob", "task") == [("embed", 20)]
    assert rows("bob", "queue") == [("default", 20)]
    assert world.ask("ann", "GET", "/v1/efficiency?by=queue").status == 403
    assert world.ask("ann", "GET", "/v1/efficiency?by=color").status == 400


def test_jobs_are_shown_while_the_profiler_is_away(world: World) -> None:
    def away() -> Any:
        raise UnavailableError("no profiler")

    world.plane._task_uses = away
    form = json.loads(world.ask("bob", "GET", "/v1/efficiency").body)
    assert form["problem"] == "no profiler" and form["rows"]
    assert "tasks are not counted: no profiler" in render_efficiency(form)


def test_nothing_measured_is_said_in_words() -> None:
    assert render_efficiency({"by": "user", "rows": [], "problem": None, "now_s": 0.0}) == "nothing was measured yet"
