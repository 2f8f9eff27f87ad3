"""What a node says of itself to Ray."""

from __future__ import annotations

import pytest

from fabric.errors import ConfigError, UnknownNameError
from fabric.types import Device, Flavor
from pools.describe import NodeDescription, describe_node, format_labels, format_resources
from pools.discovery import Discovery, discover
from pools.flavors import load_catalogue

CPU = Device(kind="cpu", name="Xeon 8380", count=80, isa=("avx2", "avx512f", "avx512_vnni"))
A100 = Device(kind="gpu", name="NVIDIA A100-SXM4-80GB", count=8)
A10 = Device(kind="gpu", name="NVIDIA A10", count=1)
T4 = Device(kind="gpu", name="Tesla T4", count=2)
U250 = Device(kind="fpga", name="Alveo U250", count=2)
QAIC = Device(kind="npu", name="Qualcomm Cloud AI 100", count=4)
NEURON = Device(kind="asic", name="AWS Inferentia2", count=6)
UNKNOWN = Device(kind="fpga", name="Xilinx FPGA 10ee:9038", count=1)


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Flavor]:
    return load_catalogue()


def seen(catalogue: dict[str, Flavor], *devices: Device) -> Discovery:
    return discover(catalogue, probes={"fake": lambda: devices}, plugins=())


@pytest.mark.parametrize(
    ("devices", "tier", "flavor", "resources"),
    [
        ((CPU,), "cold", "cpu-vnni", {}),
        ((CPU, A100), "hot", "a100-80g", {}),
        ((CPU, U250), "warm", "alveo-u250", {"FPGA": 2}),
        ((CPU, QAIC), "warm", "cloud-ai-100", {"QAIC": 4}),
        ((CPU, NEURON), "warm", "inferentia2", {}),
        ((CPU, T4, A100), "hot", "a100-80g", {}),
        ((CPU, U250, A100), "hot", "a100-80g", {"FPGA": 2}),
        ((CPU, A10, T4), "warm", "t4", {}),
        ((CPU, UNKNOWN), "cold", "cpu-vnni", {"FPGA": 1}),
        ((CPU, U250, UNKNOWN), "warm", "alveo-u250", {"FPGA": 3}),
        ((), "cold", "cpu", {}),
    ],
)
def test_a_node_is_its_best_accelerator_and_gives_only_what_ray_cannot_see(
    catalogue: dict[str, Flavor], devices: tuple[Device, ...], tier: str, flavor: str, resources: dict[str, float]
) -> None:
    node = describe_node(seen(catalogue, *devices), catalogue)
    assert (node.tier, node.flavor, node.labels, node.resources) == (tier, flavor, {"tier": tier, "flavor": flavor}, resources)


def test_an_accelerator_beats_the_cpu_even_where_the_cpu_has_the_better_tier() -> None:
    catalogue = load_catalogue({"cpu-vnni": {"tier": "hot"}})
    assert describe_node(seen(catalogue, CPU, T4), catalogue).flavor == "t4"


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ((CPU,), ["80 x Xeon 8380 is cpu-vnni (cold)"]),
        ((CPU, A100, T4), ["8 x NVIDIA A100-SXM4-80GB is a100-80g (hot)", "the better tier", "2 x t4 (warm)"]),
        ((CPU, A10, T4), ["t4", "the larger part", "1 x a10 (warm)"]),
        ((), ["nothing of a known flavor was found", "cpu"]),
    ],
)
def test_the_reason_tells_what_decided(catalogue: dict[str, Flavor], devices: tuple[Device, ...], words: list[str]) -> None:
    reason = describe_node(seen(catalogue, *devices), catalogue).reason
    assert [word for word in words if word not in reason] == []


def test_a_device_of_no_known_flavor_is_reported_with_the_line_to_add(catalogue: dict[str, Flavor]) -> None:
    (hint,) = describe_node(seen(catalogue, CPU, UNKNOWN), catalogue).hints
    assert "1 x Xilinx FPGA 10ee:9038" in hint
    assert "flavors: in fabric.yaml" in hint and 'match: ["Xilinx FPGA 10ee:9038"]' in hint


def test_the_hint_works_when_followed() -> None:
    entry = {"tier": "warm", "kind": "fpga", "resource": "VU9P", "units": 2, "match": ["Xilinx FPGA 10ee:9038"]}
    catalogue = load_catalogue({"vu9p": entry})
    node = describe_node(seen(catalogue, CPU, UNKNOWN), catalogue)
    assert (node.flavor, node.resources, node.hints) == ("vu9p", {"VU9P": 2}, ())


def test_an_explicit_flavor_overrides_what_was_found(catalogue: dict[str, Flavor]) -> None:
    node = describe_node(seen(catalogue, CPU, A100, U250), catalogue, flavor="alveo-u250")
    assert (node.tier, node.flavor, node.resources, node.reason) == ("warm", "alveo-u250", {"FPGA": 2}, "alveo-u250 was asked for")
    assert node.hints == ()


def test_an_explicit_flavor_that_is_not_on_the_machine_is_pointed_out(catalogue: dict[str, Flavor]) -> None:
    node = describe_node(seen(catalogue, CPU), catalogue, flavor="alveo-u250")
    assert node.hints == ("no alveo-u250 was found on this machine: declare its cards under devices: in fabric.yaml",)


def test_an_unknown_explicit_flavor_is_refused_with_the_nearest(catalogue: dict[str, Flavor]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        describe_node(seen(catalogue, CPU), catalogue, flavor="alveo-u25")
    assert caught.value.hint == "did you mean alveo-u250?"


def test_tiers_of_your_own_rank_in_the_order_given() -> None:
    tiers = ("edge", "hot", "warm", "cold")
    catalogue = load_catalogue({"t4": {"tier": "edge"}}, tiers=tiers)
    assert describe_node(seen(catalogue, CPU, A100, T4), catalogue, tiers=tiers).tier == "edge"
    with pytest.raises(ConfigError, match="edge"):
        describe_node(seen(catalogue, CPU, A100, T4), catalogue)


def test_labels_and_resources_are_written_as_ray_start_reads_them(catalogue: dict[str, Flavor]) -> None:
    node = describe_node(seen(catalogue, CPU, A100), catalogue)
    assert format_labels(node.labels) == "tier=hot,flavor=a100-80g"
    assert (format_resources({}), format_resources({"QAIC": 4.0, "FPGA": 0.5})) == ("{}", '{"FPGA": 0.5, "QAIC": 4}')


def test_no_label_takes_a_name_that_ray_keeps_for_itself(catalogue: dict[str, Flavor]) -> None:
    nodes: list[NodeDescription] = [describe_node(seen(catalogue, CPU), catalogue, flavor=name) for name in catalogue]
    assert not any(key.startswith("ray.io/") for node in nodes for key in node.labels)
