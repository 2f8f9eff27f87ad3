"""KubeRay's worker groups as node types that can be woken: as Ray's own autoscaler reads them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from pools.asleep import CLOUD_WAKE_S, NodeTypes, NodeTypesFile, asleep, read_node_types
from pools.kuberay_groups import cluster_file, quantity
from tests.jobs import CPU, machine

HERE = Path(__file__).parents[2] / "cluster_configs" / "kuberay"
CLUSTER: dict[str, Any] = yaml.safe_load((HERE / "raycluster.yaml").read_text(encoding="utf-8"))
HEAD = machine("h1", CPU, node_type="headgroup")


def changed(**changes: Any) -> dict[str, Any]:
    """The cluster of the manifests with another first worker group."""
    document = copy.deepcopy(CLUSTER)
    document["spec"]["workerGroupSpecs"][0] |= changes
    return document


@pytest.mark.parametrize(
    "document",
    [
        CLUSTER,
        changed(numOfHosts=2, resources={"CPU": "8", "GPU": "2", "memory": "64Gi", "vck5000": "1"}),
        changed(rayStartParams={"num-cpus": "3", "num-gpus": "0", "memory": "1000000", "resources": '"{\\"vck5000\\": 2}"'}),
        changed(template={"spec": {"containers": [{"resources": {"requests": {"cpu": "1500m", "memory": "1.5G", "amd.com/gpu": 2}}}]}}),
    ],
)
def test_groups_are_read_as_rays_autoscaler_reads_them(document: dict[str, Any]) -> None:
    theirs = _derive_autoscaling_config_from_ray_cr({**document, "metadata": {"name": "tierfabric", "namespace": "tierfabric"}})
    ours = cluster_file(document)
    assert ours["head_node_type"] == theirs["head_node_type"] and ours["max_workers"] == theirs["max_workers"]
    assert set(ours["available_node_types"]) == set(theirs["available_node_types"])
    for name, kind in ours["available_node_types"].items():
        known = theirs["available_node_types"][name]
        assert (kind["resources"], kind["max_workers"]) == (known["resources"], known["max_workers"])
        assert name == ours["head_node_type"] or kind["labels"] == known["labels"]


def test_a_group_without_pods_counts_as_room() -> None:
    known = read_node_types(cluster_file(CLUSTER))
    there = [HEAD, machine("w1", node_type="warm"), machine("c1", CPU, node_type="cold")]
    found = asleep(known, there)
    assert [node.node_id for node in found[:3]] == ["asleep/hot/0", "asleep/hot/1", "asleep/warm/1"]
    assert (found[0].tier, found[0].flavor, found[0].total["GPU"], found[0].wake_s) == ("hot", "a100-40g", 1.0, CLOUD_WAKE_S)


def test_the_file_that_the_pods_see_is_the_one_that_is_applied(tmp_path: Path) -> None:
    assert NodeTypesFile(HERE / "raycluster.yaml").read() == read_node_types(cluster_file(CLUSTER))
    service = tmp_path / "service.yaml"
    service.write_text(yaml.safe_dump({"kind": "RayService", "spec": {"rayClusterConfig": CLUSTER["spec"]}}))
    assert NodeTypesFile(service).read() == read_node_types(cluster_file(CLUSTER))
    service.write_text(yaml.safe_dump({"kind": "RayService", "spec": {}}))
    assert NodeTypesFile(service).read() == NodeTypes()


@pytest.mark.parametrize(("text", "number"), [("500m", 1), ("2", 2), (4, 4), ("1.5G", 1_500_000_000), ("64Gi", 64 * 2**30), ("1e3", 1000)])
def test_quantities_are_rounded_up(text: str | int, number: int) -> None:
    assert quantity(text) == number
    with pytest.raises(ValueError, match="no quantity"):
        quantity(f"{text} or so")
