"""The catalogue of flavors: what ships, what an override may say, and which flavor a device is."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fabric.config import load_config
from fabric.errors import ConfigError, FabricError, UnknownNameError
from fabric.types import Device, Flavor
from pools.flavors import flavor_of_cpu, flavor_of_device, load_catalogue, lookup

GIB = 2**30


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Flavor]:
    return load_catalogue()


def gpu(name: str, memory_gib: float | None = None) -> Device:
    return Device(kind="gpu", name=name, count=1, memory_bytes=None if memory_gib is None else int(memory_gib * GIB))


@pytest.mark.parametrize(
    ("tier", "names"),
    [
        ("hot", ["h200", "h100", "a100-40g", "a100-80g", "v100", "gaudi2"]),
        ("warm", ["a10", "l4", "t4", "p100", "k80", "vck5000", "alveo-u250", "inferentia2", "cloud-ai-100", "tpu-v5e"]),
        ("cold", ["cpu", "cpu-avx512", "cpu-vnni", "cpu-amx", "cpu-sve", "cpu-neon"]),
    ],
)
def test_every_machine_that_the_fabric_is_for_ships_as_a_flavor(catalogue: dict[str, Flavor], tier: str, names: list[str]) -> None:
    assert {name: catalogue[name].tier for name in names} == dict.fromkeys(names, tier)


def test_every_figure_has_a_source(catalogue: dict[str, Flavor]) -> None:
    for flavor in catalogue.values():
        figures = {
            "memory_gib": flavor.memory_bytes,
            "bandwidth_gb_per_s": flavor.bandwidth_bytes_per_s,
            "compute_capability": flavor.compute_capability,
            "tensor_cores": flavor.tensor_cores,
            **flavor.peak_flops,
        }
        assert flavor.sources.get("usd_per_h"), flavor.name
        for figure, value in figures.items():
            named = {figure, "peak_tflops"} if figure in flavor.peak_flops else {figure}
            assert value is None or flavor.sources.keys() & {*named, "specs"}, (flavor.name, figure)


@pytest.mark.parametrize("name", ["vck5000", "alveo-u250", "gaudi2"])
def test_a_price_that_nobody_publishes_is_unknown_and_not_zero(catalogue: dict[str, Flavor], name: str) -> None:
    assert catalogue[name].usd_per_h is None


def test_figures_are_converted_to_base_units(catalogue: dict[str, Flavor]) -> None:
    a100 = catalogue["a100-80g"]
    assert a100.memory_bytes == 80 * GIB
    assert a100.bandwidth_bytes_per_s == pytest.approx(2039e9)
    assert a100.peak_flops["fp16"] == pytest.approx(312e12)
    assert catalogue["inferentia2"].units == 2


def test_a_flavor_travels_between_processes(catalogue: dict[str, Flavor]) -> None:
    assert pickle.loads(pickle.dumps(catalogue)) == catalogue


def test_importing_flavors_loads_neither_yaml_nor_pydantic_nor_ray() -> None:
    code = "import sys, pools.flavors; print([m for m in ('yaml', 'pydantic', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_override_replaces_only_the_keys_it_gives() -> None:
    shipped, changed = load_catalogue()["a100-80g"], load_catalogue({"a100-80g": {"usd_per_h": 2.1}})["a100-80g"]
    assert changed.usd_per_h == 2.1
    assert (changed.memory_bytes, changed.peak_flops, changed.match) == (shipped.memory_bytes, shipped.peak_flops, shipped.match)


def test_peaks_merge_dtype_by_dtype_and_null_takes_one_away() -> None:
    peaks = load_catalogue({"t4": {"peak_tflops": {"fp16": 50, "int8": None}}})["t4"].peak_flops
    assert peaks == {"fp64": pytest.approx(0.25e12), "fp32": pytest.approx(8.1e12), "fp16": pytest.approx(50e12)}


def test_a_changed_figure_does_not_keep_the_source_of_the_old_one() -> None:
    override = {"usd_per_h": None, "peak_tflops": {"fp16": 50}, "memory_gib": 15, "sources": {"memory_gib": "nvidia-smi"}}
    sources = load_catalogue({"t4": override})["t4"].sources
    assert (sources["usd_per_h"], sources["fp16"], sources["memory_gib"]) == ("fabric.yaml", "fabric.yaml", "nvidia-smi")
    assert "datasheet" in sources["specs"]


def test_a_new_flavor_needs_only_tier_kind_and_resource() -> None:
    flavor = load_catalogue({"hailo-8": {"tier": "warm", "kind": "npu", "resource": "HAILO"}})["hailo-8"]
    assert flavor == Flavor(name="hailo-8", tier="warm", kind="npu", family="npu", resource="HAILO", peak_flops={}, sources={})


def test_new_flavors_stand_before_shipped_ones_so_that_yours_wins() -> None:
    mine = {"tier": "cold", "kind": "cpu", "resource": "CPU", "isa": ["avx2"]}
    assert flavor_of_cpu(load_catalogue({"old-xeons": mine}), {"avx2", "avx512f"}) == "old-xeons"


@pytest.mark.parametrize(
    ("override", "code", "words"),
    [
        ({"t4": {"usd_per_hour": 1}}, "unknown_flavor_key", ["flavors.t4", "usd_per_hour", "did you mean usd_per_h?"]),
        ({"t4": {"tier": "wram"}}, "unknown_tier", ["flavors.t4", "wram", "did you mean warm?"]),
        ({"t4": {"peak_tflops": {"int9": 1}}}, "unknown_dtype", ["int9", "did you mean int8?"]),
        ({"t4": {"sources": {"usd": "x"}}}, "unknown_source_key", ["usd"]),
        ({"t4": {"usd_per_h": 0}}, "bad_config", ["flavors.t4.usd_per_h", "leave it out or null when unknown"]),
        ({"t4": {"usd_per_h": -1}}, "bad_config", ["flavors.t4.usd_per_h", "greater than 0", "got -1"]),
        ({"t4": {"usd_per_h": "cheap"}}, "bad_config", ["flavors.t4.usd_per_h", "got 'cheap'"]),
        ({"t4": {"usd_per_h": True}}, "bad_config", ["flavors.t4.usd_per_h", "got True"]),
        ({"t4": {"usd_per_h": float("nan")}}, "bad_config", ["flavors.t4.usd_per_h"]),
        ({"t4": {"memory_gib": 0}}, "bad_config", ["flavors.t4.memory_gib", "got 0"]),
        ({"t4": {"units": 0}}, "bad_config", ["flavors.t4.units"]),
        ({"t4": {"peak_tflops": {"int8": -1}}}, "bad_config", ["flavors.t4.peak_tflops.int8", "got -1"]),
        ({"t4": {"match": "T4"}}, "bad_config", ["flavors.t4.match", "list"]),
        ({"t4": {"match": ["-"]}}, "bad_config", ["flavors.t4.match"]),
        ({"t4": {"tier": None}}, "bad_config", ["flavors.t4.tier", "got None"]),
        ({"t4": 0.5}, "bad_config", ["flavors.t4", "mapping"]),
        ({"my chip": {"tier": "warm", "kind": "npu", "resource": "X"}}, "bad_config", ["my chip"]),
        ({"a100-80gb": {"usd_per_h": 1}}, "bad_config", ["flavors.a100-80gb.tier is missing", "did you mean a100-80g?"]),
    ],
)
def test_a_wrong_override_is_refused_with_its_place_and_a_way_out(override: dict[str, Any], code: str, words: list[str]) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        load_catalogue(override)
    assert caught.value.code == code
    assert [word for word in words if word not in caught.value.render()] == []


def test_shipped_flavors_of_a_tier_that_this_fabric_lacks_are_left_out_unless_moved() -> None:
    catalogue = load_catalogue({"t4": {"tier": "hot"}}, tiers=("hot", "cold"))
    assert "l4" not in catalogue and catalogue["t4"].tier == "hot" and catalogue["cpu"].tier == "cold"


def test_looking_up_an_unknown_flavor_names_the_nearest(catalogue: dict[str, Flavor]) -> None:
    assert lookup(catalogue, "t4").name == "t4"
    with pytest.raises(UnknownNameError, match="a100-80gb") as caught:
        lookup(catalogue, "a100-80gb")
    assert (caught.value.code, caught.value.hint) == ("unknown_flavor", "did you mean a100-80g?")


@pytest.mark.parametrize(
    ("name", "flavor"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100-80g"),
        ("NVIDIA A100 80GB PCIe", "a100-80g"),
        ("A100-SXM-80GB", "a100-80g"),
        ("NVIDIA A100-SXM4-40GB", "a100-40g"),
        ("NVIDIA A100-PCIE-40GB", "a100-40g"),
        ("A100-SXM4-40GB", "a100-40g"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-PCIE-32GB", "v100"),
        ("Tesla V100S-PCIE-32GB", "v100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA RTX A6000", "a6000"),
        ("RTX A6000", "a6000"),
        ("Tesla T4", "t4"),
        ("NVIDIA T4", "t4"),
        ("Tesla P100-PCIE-16GB", "p100"),
        ("Tesla P100-SXM2-16GB", "p100"),
        ("Tesla K80", "k80"),
        ("Intel Gaudi2", "gaudi2"),
        ("Google TPU v5e", "tpu-v5e"),
        ("AWS Inferentia", "inferentia1"),
        ("AWS Inferentia2", "inferentia2"),
        ("Qualcomm Cloud AI 100", "cloud-ai-100"),
        ("Alveo U250", "alveo-u250"),
        ("Versal VCK5000", "vck5000"),
        ("a100-80g", "a100-80g"),
        ("L4", "l4"),
        ("NVIDIA A100X", None),
        ("NVIDIA L40", None),
        ("NVIDIA A16", None),
        ("NVIDIA GeForce RTX 4090", None),
        ("Alveo U2500", None),
        ("", None),
    ],
)
def test_the_name_that_a_driver_reports_finds_its_flavor(catalogue: dict[str, Flavor], name: str, flavor: str | None) -> None:
    assert flavor_of_device(catalogue, gpu(name)) == flavor


@pytest.mark.parametrize(
    ("name", "memory_gib", "flavor"),
    [
        ("NVIDIA A10", 22.5, "a10"),
        ("NVIDIA A10-4Q", 4, None),
        ("Tesla K80", 11.17, "k80"),
        ("Tesla V100-SXM2-32GB", 32, "v100"),
        ("NVIDIA H200", 140.4, "h200"),
    ],
)
def test_a_slice_of_a_card_is_not_the_card(catalogue: dict[str, Flavor], name: str, memory_gib: float, flavor: str | None) -> None:
    assert flavor_of_device(catalogue, gpu(name, memory_gib)) == flavor


def test_the_longest_match_wins_whatever_the_order() -> None:
    entry = {"tier": "warm", "kind": "gpu", "resource": "GPU"}
    catalogue = load_catalogue({"any-rtx": {**entry, "match": ["RTX"]}, "a6000-ada": {**entry, "match": ["RTX A6000 Ada"]}})
    assert flavor_of_device(catalogue, gpu("NVIDIA RTX A6000 Ada")) == "a6000-ada"
    assert flavor_of_device(catalogue, gpu("NVIDIA RTX A6000")) == "a6000"
    assert flavor_of_device(catalogue, gpu("NVIDIA RTX 4000")) == "any-rtx"


def test_a_device_that_names_its_flavor_is_taken_at_its_word(catalogue: dict[str, Flavor]) -> None:
    assert flavor_of_device(catalogue, Device(kind="gpu", name="engineering sample", count=1, flavor="h100")) == "h100"
    with pytest.raises(UnknownNameError, match="h101"):
        flavor_of_device(catalogue, Device(kind="gpu", name="engineering sample", count=1, flavor="h101"))


@pytest.mark.parametrize(
    ("isa", "flavor"),
    [
        ({"avx2"}, "cpu"),
        ({"avx2", "avx512f"}, "cpu-avx512"),
        ({"avx2", "avx512f", "avx512_vnni"}, "cpu-vnni"),
        ({"avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"}, "cpu-amx"),
        ({"asimd"}, "cpu-neon"),
        ({"asimd", "sve"}, "cpu-sve"),
        (set(), "cpu"),
        ({"sse2"}, "cpu"),
    ],
)
def test_a_cpu_is_the_first_flavor_whose_instruction_sets_it_has(catalogue: dict[str, Flavor], isa: set[str], flavor: str) -> None:
    assert flavor_of_cpu(catalogue, isa) == flavor
    assert flavor_of_device(catalogue, Device(kind="cpu", name="some CPU", count=1, isa=tuple(isa))) == flavor


def test_without_any_cpu_flavor_asking_for_one_is_a_config_error(catalogue: dict[str, Flavor]) -> None:
    only_gpus = {name: flavor for name, flavor in catalogue.items() if not flavor.is_cpu}
    with pytest.raises(FabricError, match="kind cpu"):
        flavor_of_cpu(only_gpus, {"avx2"})
    assert flavor_of_device(only_gpus, Device(kind="cpu", name="some CPU", count=1)) is None


def test_the_snippet_in_the_docs_is_a_valid_fabric_yaml(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/extend/add-a-flavor.md").read_text(encoding="utf-8")
    file = tmp_path / "fabric.yaml"
    file.write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    catalogue = load_catalogue(load_config(file, environ={}).config.flavors)
    assert flavor_of_device(catalogue, Device(kind="npu", name="Hailo-8", count=1)) == "hailo-8"
    assert flavor_of_cpu(catalogue, {"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}) == "epyc-genoa"
