"""Predicted run times: sane priors, and measurements that soon outweigh them."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.types import DOMAINS, PHASES, Domain, Fingerprint, Flavor, Resources, Run, Variant
from pools.flavors import load_catalogue
from profiler.estimate import Estimator, Measured, TaskProfile, log_speedup
from profiler.needs import LEAST_REQUEST_BYTES, Needs, Use
from profiler.roofline import Cost
from profiler.store import from_document, to_document

CATALOGUE = load_catalogue()
A100, T4, NPU, CPU = (CATALOGUE[name] for name in ("a100-80g", "t4", "cloud-ai-100", "cpu"))
ON_GPU = Variant("gpu", "gpu", Resources(num_gpus=1))
ON_NPU = Variant("npu", "npu", Resources())
ON_CPU = Variant("cpu", "cpu", Resources())
VARIANTS = (ON_GPU, ON_NPU, ON_CPU)
GIB = 2**30


def estimator(domain: Domain = "cv") -> Estimator:
    made = Estimator(CATALOGUE)
    made.describe("work", Fingerprint(domain), VARIANTS)
    return made


def run(flavor: Flavor, variant: Variant, wall_s: float, *, bucket: int = 0, outcome: str = "ok", peak: int = 0) -> Run:
    return Run("c", "work", bucket, variant.name, flavor.name, "n", wall_s, wall_s, peak, outcome)  # type: ignore[arg-type]


def learn(made: Estimator, flavor: Flavor, variant: Variant, median_s: float, times: int, *, bucket: int = 0, seed: int = 0) -> None:
    noise = random.Random(seed)
    for _ in range(times):
        made.record(run(flavor, variant, median_s * math.exp(noise.gauss(0.0, 0.1)), bucket=bucket))


# -- priors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["cv", "nlp"])
def test_model_work_is_expected_to_gain_from_better_hardware(domain: Domain) -> None:
    made = estimator(domain)
    on_a100, on_t4 = (made.estimate("work", 0, flavor, ON_GPU) for flavor in (A100, T4))
    on_npu, on_cpu = made.estimate("work", 0, NPU, ON_NPU), made.estimate("work", 0, CPU, ON_CPU)
    assert on_a100.run_s < on_t4.run_s < on_cpu.run_s
    assert on_npu.run_s < on_cpu.run_s
    assert on_a100.num_runs == 0


def test_other_work_is_expected_to_gain_nothing_from_a_gpu() -> None:
    made = estimator("other")
    assert made.estimate("work", 0, A100, ON_GPU).run_s == made.estimate("work", 0, CPU, ON_CPU).run_s


def test_tabular_work_is_expected_to_gain_at_most_half() -> None:
    made = estimator("tabular")
    on_gpu, on_cpu = made.estimate("work", 0, A100, ON_GPU), made.estimate("work", 0, CPU, ON_CPU)
    assert 0.5 * on_cpu.run_s < on_gpu.run_s < on_cpu.run_s


@pytest.mark.parametrize("domain", DOMAINS)
def test_cpu_work_is_expected_to_run_alike_on_the_host_of_any_accelerator(domain: Domain) -> None:
    speedups = {log_speedup(flavor, Variant("v", "", Resources()), domain) for flavor in (A100, T4, NPU)}
    assert len(speedups) == 1


def test_more_cpus_are_expected_to_help_dense_work() -> None:
    few, many = (log_speedup(CPU, Variant("v", "cpu", Resources(num_cpus=n)), "cv") for n in (1, 8))
    assert 1 < math.exp(many - few) < 8


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_shipped_flavor_has_a_finite_prior_that_no_accelerator_falls_below_a_cpu(name: str, domain: Domain) -> None:
    flavor = CATALOGUE[name]
    speedup = log_speedup(flavor, Variant("v", flavor.kind, Resources()), domain)
    assert math.isfinite(speedup)
    assert flavor.is_cpu or speedup >= 0.0


def test_a_task_that_nobody_described_has_a_prior_too() -> None:
    estimate = Estimator(CATALOGUE).estimate("stranger", 3, CPU, ON_CPU)
    assert 0.001 < estimate.run_s < 10
    assert estimate.log_sd > 1


# -- measurements ----------------------------------------------------------------------------------------------------------


def test_runs_on_one_flavor_sharpen_the_prediction_for_another() -> None:
    made = estimator()
    before = made.estimate("work", 0, A100, ON_GPU)
    learn(made, CPU, ON_CPU, 40.0, times=10)
    after = made.estimate("work", 0, A100, ON_GPU)
    assert after.run_s > 10 * before.run_s, "a task that is slow on a CPU is not instant on a GPU"
    assert after.run_s < made.estimate("work", 0, CPU, ON_CPU).run_s
    assert after.log_sd < before.log_sd
    assert after.num_runs == 0


@pytest.mark.parametrize("true_s", [0.0005, 0.05, 20.0])
@pytest.mark.parametrize(("flavor", "variant"), [(A100, ON_GPU), (CPU, ON_CPU)], ids=["gpu", "cpu"])
def test_a_flavors_own_runs_win_over_every_prior_within_a_few(flavor: Flavor, variant: Variant, true_s: float) -> None:
    made = estimator()
    learn(made, flavor, variant, true_s, times=5)
    estimate = made.estimate("work", 0, flavor, variant)
    assert estimate.run_s == pytest.approx(true_s, rel=0.25)
    assert estimate.num_runs == 5


def test_measurements_may_turn_the_prior_order_around() -> None:
    made = estimator()
    learn(made, A100, ON_GPU, 2.0, times=5)
    learn(made, CPU, ON_CPU, 0.1, times=5)
    assert made.estimate("work", 0, CPU, ON_CPU).run_s < made.estimate("work", 0, A100, ON_GPU).run_s


def test_a_machine_that_became_three_times_slower_is_believed_after_a_hundred_runs() -> None:
    made = estimator()
    learn(made, A100, ON_GPU, 1.0, times=1000)
    learn(made, A100, ON_GPU, 3.0, times=100, seed=1)
    assert made.estimate("work", 0, A100, ON_GPU).run_s == pytest.approx(3.0, rel=0.2)


def test_the_doubt_shrinks_with_every_few_runs_down_to_the_noise() -> None:
    made = estimator()
    doubts = [made.estimate("work", 0, A100, ON_GPU).log_sd]
    for seed, times in enumerate((1, 5, 20, 100)):
        learn(made, A100, ON_GPU, 1.0, times=times, seed=seed)
        doubts.append(made.estimate("work", 0, A100, ON_GPU).log_sd)
    assert doubts == sorted(doubts, reverse=True)
    assert doubts[-1] == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("outcome", ["error", "oom"])
def test_failed_runs_teach_nothing_about_time(outcome: str) -> None:
    made = estimator()
    before = made.estimate("work", 0, CPU, ON_CPU)
    made.record(run(CPU, ON_CPU, 0.0001, outcome=outcome))
    assert made.estimate("work", 0, CPU, ON_CPU) == before


def test_a_run_too_short_for_the_clock_is_no_error() -> None:
    made = estimator()
    for _ in range(5):
        made.record(run(CPU, ON_CPU, 0.0))
    assert 0 < made.estimate("work", 0, CPU, ON_CPU).run_s < 1e-4


def test_the_largest_peak_is_kept() -> None:
    made = estimator()
    for peak in (3, 7, 5):
        made.record(run(CPU, ON_CPU, 1.0, peak=peak))
    assert made.estimate("work", 0, CPU, ON_CPU).peak_memory_bytes == 7


# -- sizes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bucket", "factor"), [(2, 4**-0.8), (3, 1.0), (4, 4**0.8), (6, 4**2.4)])
def test_an_unmeasured_size_is_scaled_from_the_nearest_measured_one(bucket: int, factor: float) -> None:
    made = estimator()
    learn(made, CPU, ON_CPU, 1.0, times=50, bucket=3)
    known, guessed = made.estimate("work", 3, CPU, ON_CPU), made.estimate("work", bucket, CPU, ON_CPU)
    assert guessed.run_s == pytest.approx(known.run_s * factor)
    assert guessed.log_sd >= known.log_sd
    assert guessed.num_runs == (50 if bucket == 3 else 0)


def test_the_nearest_measured_size_is_used_and_not_the_last_or_the_commonest() -> None:
    made = estimator()
    learn(made, CPU, ON_CPU, 1.0, times=100, bucket=0)
    learn(made, CPU, ON_CPU, 100.0, times=10, bucket=6)
    assert made.estimate("work", 5, CPU, ON_CPU).run_s == pytest.approx(100.0 * 4**-0.8, rel=0.2)


def test_what_a_flavor_did_at_another_size_counts_although_others_were_measured_at_this_one() -> None:
    made = estimator()
    learn(made, A100, ON_GPU, 8.0, times=50, bucket=2)
    learn(made, CPU, ON_CPU, 1.0, times=50, bucket=2)
    learn(made, CPU, ON_CPU, 3.0, times=50, bucket=3)
    guess = made.estimate("work", 3, A100, ON_GPU)
    assert guess.run_s > made.estimate("work", 3, CPU, ON_CPU).run_s, "the prior says otherwise, the runs at bucket 2 know better"
    assert guess.num_runs == 0


# -- memory ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "used", "next_bytes"),
    [(0, 0, 2 * LEAST_REQUEST_BYTES), (GIB, 0, 2 * GIB), (GIB, 3 * GIB, 6 * GIB), (0, GIB, 2 * GIB)],
)
def test_after_an_oom_twice_what_was_asked_for_or_used_is_asked_for(asked: int, used: int, next_bytes: int) -> None:
    made = estimator()
    made.remember_oom("work", "cpu", asked, used, 1000)
    needs = made.profile("work").needs["cpu"]
    assert needs.floor_bytes(1000, 100 * GIB) == next_bytes
    assert needs.floor_bytes(2000, 100 * GIB) == next_bytes, "larger inputs need no less"
    assert needs.floor_bytes(500, 100 * GIB) == 0, "smaller ones are left alone"


def test_the_memory_floor_doubles_with_every_oom_and_never_shrinks() -> None:
    made, floors = estimator(), []
    for asked in (GIB, 2 * GIB, GIB // 2, 4 * GIB):
        made.remember_oom("work", "cpu", asked, 0)
        floors.append(made.profile("work").needs["cpu"].floor_bytes(0, 100 * GIB))
    assert floors == [2 * GIB, 4 * GIB, 4 * GIB, 8 * GIB]


def test_runs_teach_what_is_needed_and_those_whose_peak_was_not_read_do_not() -> None:
    made = estimator()
    made.record(run(CPU, ON_CPU, 1.0, peak=GIB))
    made.record(run(CPU, ON_CPU, 1.0, peak=0))
    assert made.profile("work").needs["cpu"].runs == [(-1, GIB)]


# -- changes and documents -------------------------------------------------------------------------------------------------


def test_only_what_changed_is_dirty() -> None:
    made = estimator()
    made.dirty.clear()
    made.describe("work", Fingerprint("cv"), VARIANTS)
    made.record(run(CPU, ON_CPU, 1.0, outcome="error"))
    assert made.dirty == set()
    made.record(run(CPU, ON_CPU, 1.0))
    assert made.dirty == {"work"}


names = st.sampled_from(["", "a", "ü\n", "gpu", "work@1f"])
finite = st.sampled_from([0.0, -1.5, 1e-300, 0.1 + 0.2, 1e9])
variants = st.builds(
    Variant,
    names,
    names,
    st.builds(Resources, finite, finite, st.integers(0, 2**50), st.lists(st.tuples(names, finite), max_size=2).map(tuple)),
    names,
    st.sampled_from([(), ("memory", "num_cpus")]),
)
uses = st.lists(st.builds(Use, finite, st.none() | finite, st.none() | st.integers(0, 2**40)), max_size=2)
pairs = st.tuples(st.integers(-1, 2**50), st.integers(0, 2**50))
profiles = st.builds(
    TaskProfile,
    task=names,
    fingerprint=st.builds(Fingerprint, st.sampled_from(DOMAINS), st.sampled_from(PHASES), st.lists(names, max_size=3).map(tuple)),
    variants=st.lists(variants, max_size=3).map(lambda found: {v.name: v for v in found}),
    measured=st.dictionaries(
        st.tuples(st.integers(-1, 20), names, names),
        st.builds(Measured, finite, finite, finite, st.integers(0, 10**9), st.integers(0, 2**50)),
        max_size=3,
    ),
    needs=st.dictionaries(
        names, st.builds(Needs, st.lists(pairs, max_size=3), st.dictionaries(st.integers(-1, 2**50), pairs, max_size=2), uses)
    ),
    costs=st.dictionaries(st.integers(-1, 20), st.builds(Cost, finite, finite, st.just("fp16")), max_size=2),
    as_of_s=st.none() | finite,
)


@settings(max_examples=25, deadline=None)
@given(profiles)
def test_a_profile_survives_the_journal(profile: TaskProfile) -> None:
    assert from_document(json.loads(json.dumps(to_document(profile)))) == profile


def test_a_profile_written_before_code_was_hashed_still_opens() -> None:
    made = estimator()
    learn(made, CPU, ON_CPU, 1.0, times=3)
    document = to_document(made.profile("work"))
    for row in document["variants"]:
        del row["code_hash"]
    assert from_document(document) == made.profile("work")


def test_changed_code_of_a_variant_is_measured_anew_and_the_others_keep_their_runs() -> None:
    made = estimator()
    learn(made, CPU, ON_CPU, 1.0, times=3)
    learn(made, A100, ON_GPU, 0.1, times=3)
    made.describe("work", Fingerprint("cv"), (replace(ON_GPU, code_hash="changed"), ON_NPU, ON_CPU))
    assert made.estimate("work", 0, A100, ON_GPU).num_runs == 0
    assert made.estimate("work", 0, CPU, ON_CPU).num_runs == 3
