"""A node as its machine is told it: there and back, and what counts as the same."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from fabric.errors import ConfigError
from fabric.machines.spec import NodeSpec, Ports, read_spec
from tests.labs import node_spec

FULL = node_spec(
    kind="head",
    env={"RAY_x": "1"},
    ports=Ports(gcs=7000, last_worker=15000),
    release="abc",
    is_tls=True,
    autoscaling_config="~/a.yaml",
    fabric_config="~/f.yaml",
)


@pytest.mark.parametrize("spec", [node_spec(), FULL], ids=["plain", "full"])
def test_a_spec_survives_its_way_to_the_machine(spec: NodeSpec) -> None:
    assert read_spec(spec.to_json()) == spec
    assert read_spec(spec.to_json()).digest() == spec.digest() and len(spec.digest()) == 16


def test_another_start_of_the_same_machine_is_the_same_node() -> None:
    assert node_spec(instance_id="10.0.0.2-7").digest() == node_spec().digest()


def test_who_else_is_in_the_cluster_makes_no_other_node() -> None:
    assert node_spec(friends=("10.0.0.9",)).digest() == node_spec().digest()


CHANGES: dict[str, Any] = {
    "cluster": "other", "kind": "head", "address": "10.0.0.9", "head": "10.0.0.9", "node_type": "warm", "environment": "/opt/env",
    "labels": {"tier": "warm"}, "resources": {"CPU": 7}, "env": {"A": "1"}, "ports": Ports(metrics=7000),
    "release": "abc", "is_tls": True, "autoscaling_config": "~/a.yaml", "fabric_config": "~/f.yaml",
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(NodeSpec) if field.name not in ("instance_id", "friends")])
def test_whatever_else_is_changed_makes_another_node(name: str) -> None:
    assert dataclasses.replace(node_spec(), **{name: CHANGES[name]}).digest() != node_spec().digest()


def test_the_order_in_which_labels_are_written_changes_nothing() -> None:
    assert node_spec(labels={"flavor": "a100-80g", "tier": "hot"}).digest() == node_spec().digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        json.dumps({"cluster": "lab"}),
        node_spec().to_json()[:-1],
        node_spec().to_json().replace('"head"', '"haed"'),
        node_spec().to_json().replace('"gcs"', '"gsc"'),
    ],
)
def test_what_is_no_spec_is_told_by_its_code(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_spec(text)
    assert error.value.code == "bad_node_spec"


def test_every_port_of_a_node_has_a_name_and_stands_once() -> None:
    head, worker = Ports().of("head"), Ports().of("worker")
    assert set(worker) < set(head) and len(head) == 9 and len(worker) == 6
    assert {6379, 8265, 10001} == set(head) - set(worker)
    workers = range(Ports().first_worker, Ports().last_worker + 1)
    assert not set(head) & set(workers) and all(head.values())
