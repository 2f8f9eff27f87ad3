"""What a selector names, and how accelerators and lengths of time are written."""

from __future__ import annotations

import pytest

from fabric.durations import parse_duration
from fabric.errors import UnknownNameError, UserError
from fabric.job import Shape
from fabric.selectors import Accelerators, flavors_of, parse_accelerators, parse_gpus
from pools.flavors import load_catalogue

CATALOGUE = load_catalogue()

# -- selectors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "flavors"),
    [
        ("a100-80g", {"a100-80g"}),
        ("A100-80G", {"a100-80g"}),
        ("A100", {"a100-80g", "a100-40g"}),
        ("V100", {"v100"}),
        ("H100", {"h100"}),
        ("a10", {"a10"}),  # neither a10g nor a100: a model ends at a hyphen
        ("google-tpu", {"tpu-v5e"}),
        ("NPU", {"cloud-ai-100"}),
        ("arm", {"cpu-sve", "cpu-neon"}),
        (" fpga ", {"vck5000", "alveo-u250"}),
    ],
)
def test_a_selector_is_a_name_a_model_a_family_or_a_kind_in_any_case(selector: str, flavors: set[str]) -> None:
    assert set(flavors_of(selector, CATALOGUE)) == flavors


@pytest.mark.parametrize("tier", ["hot", "Warm", "cold"])
def test_a_tier_names_all_its_flavors_and_no_other(tier: str) -> None:
    assert set(flavors_of(tier, CATALOGUE)) == {flavor.name for flavor in CATALOGUE.values() if flavor.tier == tier.lower()}


@pytest.mark.parametrize("selector", ["", "any", "ANY"])
def test_any_names_all_in_the_order_of_the_catalogue(selector: str) -> None:
    assert flavors_of(selector, CATALOGUE) == tuple(CATALOGUE)


def test_a_flavor_of_ones_own_is_found_whatever_the_case_of_its_name() -> None:
    own = load_catalogue({"MyCard-X": {"tier": "warm", "kind": "npu", "resource": "NPU", "family": "Acme"}})
    assert flavors_of("mycard", own) == flavors_of("acme", own) == flavors_of("MYCARD-X", own) == ("MyCard-X",)


def test_an_unknown_selector_is_told_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        flavors_of("a100-80gb", CATALOGUE)
    assert (caught.value.code, caught.value.hint) == ("unknown_flavor", "did you mean a100-80g?")


# -- accelerators ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A100:4", ("A100", 4, 1)),
        ("A100:4x2", ("A100", 4, 2)),
        ("a100-80g:4X2", ("a100-80g", 4, 2)),
        (" gpu : 2 x 3 ", ("gpu", 2, 3)),
        ("A100", ("A100", 1, 1)),
        ("tpu-v5e", ("tpu-v5e", 1, 1)),
        ("any", ("", 1, 1)),
        ("Any:2", ("", 2, 1)),
        ("cpu:8", ("cpu", 8, 1)),
    ],
)
def test_accelerators_are_a_selector_a_number_and_a_number_of_nodes(text: str, read: Accelerators) -> None:
    assert parse_accelerators(text) == read


@pytest.mark.parametrize(
    "text", ["", "4", "A100:", ":4", "A100:0", "A100:4x0", "A100:-1", "A100:0.5", "A100:4:2", "A100:2-8", "A100=4", "1e3", "-"]
)
def test_what_does_not_name_accelerators_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_accelerators(text)
    assert caught.value.code == "bad_accelerators"
    assert repr(text) in caught.value.message
    for example in ("A100:4x2", "cpu:8"):
        assert example in (caught.value.hint or "")
        assert parse_accelerators(example)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("4", Shape("gpu", accelerators=4)),
        (4, Shape("gpu", accelerators=4)),
        ("4x2", Shape("gpu", accelerators=4, num_bundles=2, spread=True)),
        ("A100", Shape("A100", accelerators=1)),
        ("A100:4", Shape("A100", accelerators=4)),
        ("A100:4x2", Shape("A100", accelerators=4, num_bundles=2, spread=True)),
        ("2-8", Shape("gpu", accelerators=1, num_bundles=2, max_bundles=8)),
        (" 2 - 8 ", Shape("gpu", accelerators=1, num_bundles=2, max_bundles=8)),
        ("A100:2-8", Shape("A100", accelerators=1, num_bundles=2, max_bundles=8)),
        ("any:1-4", Shape("", accelerators=1, num_bundles=1, max_bundles=4)),
        ("cpu:8", Shape("cpu", accelerators=8)),
    ],
)
def test_gpus_are_one_way_to_run(text: str | int, shape: Shape) -> None:
    assert parse_gpus(text) == shape


def test_cpus_and_memory_are_for_each_process() -> None:
    assert parse_gpus("A100:4x2", cpus=8, memory_bytes=2**30) == Shape("A100", 4, 8, 2**30, num_bundles=2, spread=True)


@pytest.mark.parametrize("text", ["8-2", "0-4", "2-8x2", "A100-8-", "0", 0, -1, True, "", "2-", "A100:4-"])
def test_gpus_that_make_no_sense_are_refused(text: str | int) -> None:
    with pytest.raises(UserError) as caught:
        parse_gpus(text)
    assert caught.value.code == "bad_accelerators"


# -- lengths of time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("168h", 7 * 86400),
        ("7d", 7 * 86400),
        ("2w", 14 * 86400),
        ("1h30m", 5400),
        ("1H 30M", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        (" 300 ", 300),
        ("0", 0),
        (300, 300),
        (0.25, 0.25),
    ],
)
def test_a_length_of_time_is_read_as_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "5 minutes", "-5m", "1h-30m", "5mm", "1e3", "inf", "9" * 400, "soon", True, -1, float("nan"), float("inf")]
)
def test_what_is_no_length_of_time_is_refused(text: str | float) -> None:
    with pytest.raises(UserError) as caught:
        parse_duration(text)
    assert caught.value.code == "bad_duration"
    assert "1h30m" in (caught.value.hint or "")
