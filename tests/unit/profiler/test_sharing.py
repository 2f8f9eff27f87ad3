"""What some tasks took on an accelerator sharpens what is expected of others there."""

from __future__ import annotations

import math
import random

from fabric.types import Fingerprint, Flavor, Resources, Run, Variant
from pools.flavors import load_catalogue
from profiler.estimate import Estimator
from profiler.sharing import SharingPace, is_news, shared_forecasts

CATALOGUE = load_catalogue()
A100, T4, CPU = (CATALOGUE[name] for name in ("a100-80g", "t4", "cpu"))
GPU = Variant("gpu", "gpu", Resources(num_gpus=1), "aa")
ON_CPU = Variant("cpu", "cpu", Resources(), "aa")


def fabric_of(num_tasks: int, *, t4_ratio: float = 20.0, seed: int = 0) -> Estimator:
    """Tasks that all ran on both cards; on the T4 so many times as long, far from what its data sheet says. The last on the A100 only."""
    luck, made = random.Random(seed), Estimator(CATALOGUE)
    for number in range(num_tasks + 1):
        task = f"task{number}@aa"
        made.describe(task, Fingerprint("cv"), (GPU, ON_CPU))
        base_s = 0.05 * math.exp(luck.gauss(0.0, 1.0))
        for flavor, ratio in ((A100, 1.0), (T4, t4_ratio)) if number < num_tasks else ((A100, 1.0),):
            for _ in range(20):
                record(made, task, flavor, base_s * ratio * math.exp(luck.gauss(0.0, 0.1)))
    return made


def record(made: Estimator, task: str, flavor: Flavor, wall_s: float, variant: Variant = GPU) -> None:
    made.record(Run("c", task, 3, variant.name, flavor.name, "n", wall_s, wall_s, 0))


def ratio_on_t4(made: Estimator, task: str) -> tuple[float, float]:
    made.profiles[task].forecasts = shared_forecasts(made.profiles.values(), CATALOGUE).get(task, {})
    on_t4, on_a100 = (made.estimate(task, 3, flavor, GPU) for flavor in (T4, A100))
    assert on_t4.num_runs == 0
    return on_t4.run_s / on_a100.run_s, on_t4.log_sd


def test_a_flavor_that_is_slower_than_its_data_sheet_is_expected_to_be_so_for_the_next_task() -> None:
    alone, alone_sd = ratio_on_t4(fabric_of(0), "task0@aa")
    shared, shared_sd = ratio_on_t4(fabric_of(8), "task8@aa")
    assert abs(math.log(shared / 20.0)) < 0.5 * abs(math.log(alone / 20.0))
    assert shared_sd < alone_sd
    assert abs(math.log(shared / 20.0)) < 2.0 * shared_sd


def test_a_flavor_s_own_runs_outweigh_what_others_say() -> None:
    made = fabric_of(8)
    for _ in range(20):
        record(made, "task8@aa", T4, 0.001)
    assert "t4" not in {flavor for _, flavor in shared_forecasts(made.profiles.values(), CATALOGUE)["task8@aa"]}
    made.profiles["task8@aa"].forecasts = shared_forecasts(made.profiles.values(), CATALOGUE)["task8@aa"]
    assert math.isclose(made.estimate("task8@aa", 3, T4, GPU).run_s, 0.001, rel_tol=0.1)


def test_work_on_cpus_gets_no_forecast_for_accelerators() -> None:
    made = Estimator(CATALOGUE)
    made.describe("work@aa", Fingerprint("cv"), (GPU, ON_CPU))
    record(made, "work@aa", CPU, 1.0, ON_CPU)
    record(made, "work@aa", A100, 1.0, ON_CPU)
    assert shared_forecasts(made.profiles.values(), CATALOGUE) == {}


def test_news_is_what_changed() -> None:
    made = fabric_of(3)
    before = shared_forecasts(made.profiles.values(), CATALOGUE)["task3@aa"]
    assert not is_news(before, dict(before))
    assert is_news({}, before)
    for number in range(3):
        for _ in range(50):
            record(made, f"task{number}@aa", T4, 5.0)
    assert is_news(before, shared_forecasts(made.profiles.values(), CATALOGUE)["task3@aa"])


def test_forecasts_are_made_for_a_small_part_of_the_time() -> None:
    pace = SharingPace()
    assert pace.is_due(100.0), "what was restored is shared at once"
    pace.has_news = False
    pace.done(100.0, 101.0)
    assert not pace.is_due(1e9), "nothing was measured since"
    pace.has_news = True
    assert not pace.is_due(120.0)
    assert pace.is_due(121.0)
    pace.done(121.0, 131.0)
    assert not pace.is_due(330.0), "what took 10 s is not repeated within 200 s"
    assert pace.is_due(331.0)
