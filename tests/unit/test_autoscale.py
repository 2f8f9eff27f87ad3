"""How many replicas CPU use asks for, and how that use is measured."""

from types import SimpleNamespace
from typing import Any

import pytest

from fabric.errors import UnknownNameError, UserError
from serve_apps.autoscale import Autoscale, CpuMeter, CpuPolicy, desired_replicas, parse_autoscale


@pytest.mark.parametrize(
    ("reported", "current", "wanted"),
    [
        pytest.param([140.0], 1, 2, id="twice the target doubles"),
        pytest.param([100.0, 100.0], 2, 3, id="ceil(2 x 100/70)"),
        pytest.param([35.0, 35.0], 2, 1, id="half the target halves"),
        pytest.param([70.0], 1, 1, id="on target stays"),
        pytest.param([76.9, 76.9], 2, 2, id="within ten percent above stays"),
        pytest.param([63.1, 63.1], 2, 2, id="within ten percent below stays"),
        pytest.param([78.0, 78.0], 2, 3, id="just outside the band moves"),
        pytest.param([0.0, 0.0], 2, 0, id="idle asks for none, the bounds hold it"),
        pytest.param([], 3, 3, id="nothing measured changes nothing"),
        pytest.param([50.0], 0, 0, id="no replica, no answer"),
        pytest.param([100.0], 2, 2, id="a starting replica is already the answer"),
        pytest.param([300.0], 2, 5, id="a starting replica counts as idle: ceil(2 x 150/70)"),
        pytest.param([10.0], 2, 2, id="a silent replica counts as on target when shrinking"),
        pytest.param([0.0, 0.0, 0.0], 2, 0, id="more reports than replicas: one is on its way out"),
    ],
)
def test_the_wanted_number_follows_the_mean_over_the_target(reported: list[float], current: int, wanted: int) -> None:
    assert desired_replicas(reported, current, target=70.0) == wanted


def context(reported: dict[str, float] | None, target_num_replicas: int) -> Any:
    metrics = {} if reported is None else {"cpu_utilization": reported}
    return SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=target_num_replicas)


@pytest.mark.parametrize(
    ("reported", "target_num_replicas", "wanted"),
    [
        ({"a": 100.0}, 1, 2),
        ({"a": 100.0, "b": 100.0, "c": 100.0, "d": 100.0}, 4, 4),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, 3, 2),
        (None, 3, 3),
    ],
    ids=["grows", "never past the maximum", "never below the minimum", "holds before the first report"],
)
def test_the_policy_stays_between_its_bounds(reported: dict[str, float] | None, target_num_replicas: int, wanted: int) -> None:
    policy = CpuPolicy("cpu_utilization", target=70.0, tolerance_frac=0.1, min_replicas=2, max_replicas=4)
    assert policy(context(reported, target_num_replicas)) == (wanted, {})


def test_one_busy_core_is_a_hundred_percent_for_a_replica_that_reserves_little() -> None:
    meter = CpuMeter(num_cpus=0.1, cpu_s=5.0, now_s=100.0)
    assert meter.read(cpu_s=7.0, now_s=102.0) == pytest.approx(100.0)


def test_a_replica_of_four_cpus_needs_four_busy_cores_for_a_hundred_percent() -> None:
    meter = CpuMeter(num_cpus=4, cpu_s=0.0, now_s=0.0)
    assert meter.read(cpu_s=8.0, now_s=2.0) == pytest.approx(100.0)


def test_a_reading_covers_the_last_window_only() -> None:
    meter = CpuMeter(num_cpus=1, cpu_s=0.0, now_s=0.0, window_s=4.0)
    for now_s in range(1, 11):
        busy = meter.read(cpu_s=float(now_s), now_s=float(now_s))
    assert busy == pytest.approx(100.0)
    readings = [meter.read(cpu_s=10.0, now_s=float(now_s)) for now_s in range(11, 16)]
    assert readings == pytest.approx([75.0, 50.0, 25.0, 0.0, 0.0])


def test_two_readings_at_one_instant_do_not_divide_by_zero() -> None:
    assert CpuMeter(num_cpus=1, cpu_s=1.0, now_s=1.0).read(cpu_s=1.0, now_s=1.0) == 0.0


def test_autoscale_documents_are_read() -> None:
    given = {"metric": "cpu_utilization", "target": 70, "min": 2, "max": 10}
    assert parse_autoscale(given) == Autoscale(metric="cpu_utilization", target=70.0, min=2, max=10)
    assert parse_autoscale({"target": 50, "max": 3}) == Autoscale(metric="cpu_utilization", target=50.0, min=1, max=3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"metric": "gpu"}, "unknown_autoscale_metric"),
        ({"targt": 70}, "unknown_autoscale_key"),
        ({"target": 0}, "bad_autoscale"),
        ({"target": 101}, "bad_autoscale"),
        ({"target": "70"}, "bad_autoscale"),
        ({"min": 0}, "bad_autoscale"),
        ({"min": 4, "max": 3}, "bad_autoscale"),
        ({"max": 2.5}, "bad_autoscale"),
    ],
)
def test_an_unsound_autoscale_is_refused(change: dict[str, Any], code: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_autoscale({"metric": "cpu_utilization", "target": 70, "min": 1, "max": 10, **change})
    assert caught.value.code == code


def test_a_misspelt_key_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_autoscale({"targt": 70, "max": 3})
    assert caught.value.hint == "did you mean target?"


@pytest.mark.parametrize("missing", ["target", "max"])
def test_target_and_max_cannot_be_left_out(missing: str) -> None:
    given = {"target": 70, "max": 3}
    del given[missing]
    with pytest.raises(UserError, match=missing):
        parse_autoscale(given)
