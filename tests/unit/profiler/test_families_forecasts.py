"""What other families of jobs took on an accelerator counts for one that has not run there."""

from __future__ import annotations

import math
import random

from fabric.job import Shape
from profiler.families import Families
from profiler.sharing import shared_forecasts
from tests.jobs import spec
from tests.unit.profiler.test_sharing import CATALOGUE


def ratio_on_t4(num_others: int) -> float:
    """The T4 takes twenty times as long as the A100 for all; the last family has run on the A100 alone."""
    families, luck = Families(CATALOGUE), random.Random(0)
    for number in range(num_others + 1):
        run_s = 600.0 * math.exp(luck.gauss(0.0, 1.0))
        job = spec(f"f{number}", Shape("gpu", 1))
        families.learn(job, 0, "a100-80g", 1, run_s)
        if number < num_others:
            families.learn(job, 0, "t4", 1, 20.0 * run_s)
    families.take_forecasts(shared_forecasts(families.copies(), CATALOGUE))
    rates = families.estimate(spec(f"f{num_others}", Shape("gpu", 1))).rates
    return rates[0, "a100-80g"] / rates[0, "t4"]


def test_a_family_borrows_from_others_what_an_accelerator_is_worth() -> None:
    assert abs(math.log(ratio_on_t4(8) / 20.0)) < 0.5 * abs(math.log(ratio_on_t4(0) / 20.0))
