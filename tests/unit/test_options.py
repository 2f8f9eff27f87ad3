"""The options of a task are checked where they are written, with the value in the message."""

from __future__ import annotations

from typing import Any

import pytest

from fabric.errors import UnknownNameError, UserError
from fabric.options import check_options
from fabric.types import Resources, Variant


@pytest.mark.parametrize(
    ("options", "resources"),
    [
        ({}, Resources(num_cpus=1.0)),
        ({"num_cpus": 0}, Resources(num_cpus=0.0)),
        ({"num_cpus": 0.5, "num_gpus": 2}, Resources(num_cpus=0.5, num_gpus=2.0)),
        ({"memory": 1.5e9}, Resources(memory_bytes=1_500_000_000)),
        ({"resources": {"NPU": 1, "FPGA": 2}}, Resources(custom=(("FPGA", 2.0), ("NPU", 1.0)))),
        ({"resources": None, "num_gpus": None}, Resources()),
    ],
)
def test_amounts_become_resources(options: dict[str, Any], resources: Resources) -> None:
    assert check_options(options, "work").resources == resources


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": -1}, "work: num_cpus=-1 must be a number, 0 or more"),
        ({"num_gpus": "2"}, "work: num_gpus='2' must be a number, 0 or more"),
        ({"num_gpus": True}, "work: num_gpus=True must be a number, 0 or more"),
        ({"memory": float("inf")}, "work: memory=inf must be a number, 0 or more"),
        ({"num_cpus": float("nan")}, "work: num_cpus=nan must be a number, 0 or more"),
        ({"num_gpus": 1.5}, "work: num_gpus=1.5 must be whole above 1 (Ray's rule)"),
        ({"resources": {"NPU": 2.5}}, "work: NPU=2.5 must be whole above 1 (Ray's rule)"),
        ({"resources": {"NPU": -1}}, "work: NPU=-1 must be a number, 0 or more"),
        ({"resources": ["NPU"]}, "work: resources=['NPU'] is not a mapping"),
        ({"resources": {"GPU": 1}}, "work: GPU has an option of its own"),
        ({"resources": {"memory": 1}}, "work: memory has an option of its own"),
    ],
)
def test_a_bad_amount_is_refused_with_its_name_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_options(options, "work")
    assert (caught.value.code, caught.value.message) == ("bad_resources", message)


def test_the_hint_for_a_fraction_above_one_is_the_next_whole_number() -> None:
    with pytest.raises(UserError) as caught:
        check_options({"num_gpus": 1.5}, "work")
    assert caught.value.hint == "num_gpus=2"


@pytest.mark.parametrize(
    ("wrong", "right"), [("num_gpu", "num_gpus"), ("wattage", None), ("flavour", "flavor"), ("max_retrys", "max_retries")]
)
def test_an_unknown_option_is_refused_with_the_nearest_one(wrong: str, right: str | None) -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_options({wrong: 1}, "work")
    assert caught.value.code == "unknown_task_option"
    assert str(caught.value.hint).startswith(f"did you mean {right}?" if right else "known: ")


def test_what_is_rays_own_is_passed_on_and_nothing_else() -> None:
    options = check_options({"max_retries": 0, "runtime_env": {"pip": ["x"]}, "num_gpus": 1, "flavor": "gpu"}, "work")
    assert options.ray_options() == {"max_retries": 0, "runtime_env": {"pip": ["x"]}}
    assert options.variant("default") == Variant("default", "gpu", Resources(num_gpus=1.0))
    assert check_options({}, "work").ray_options() == {}


def test_zeros_are_not_demanded_and_do_not_count_as_an_accelerator() -> None:
    resources = check_options({"num_gpus": 0, "resources": {"NPU": 0}}, "work").resources
    assert resources.as_demand() == {"CPU": 1.0}
    assert not resources.uses_accelerator
