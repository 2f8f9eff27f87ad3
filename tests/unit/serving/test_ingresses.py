"""Which machines have an ingress of their own, and when it goes."""

from __future__ import annotations

import pytest

from fabric.config import FabricConfig, ServingConfig
from serve_apps.directory.ingresses import LINGER_S, Ingresses
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry


def table(*nodes: str) -> ServingTable:
    replicas = tuple(ReplicaAt(ReplicaId(f"r{number}"), "10.0.0.1", 30000 + number, node) for number, node in enumerate(nodes))
    return ServingTable(1, {"m": ModelEntry("m", "1", {"1": VersionEntry("1", None, replicas)})})


def ingresses(host: str = "0.0.0.0", mode: str = "auto", *, is_spread: bool = True) -> Ingresses:
    return Ingresses(FabricConfig(serving=ServingConfig(host=host, ingress=mode)), is_spread=is_spread)  # type: ignore[arg-type]


def test_each_machine_with_a_replica_gets_one_but_the_head() -> None:
    assert ingresses().due(table("head", "a", "b", "a"), "head", 0.0) == (["a", "b"], [])


def test_it_is_started_once_and_again_where_that_failed() -> None:
    found = ingresses()
    assert found.due(table("a"), "head", 0.0) == (["a"], [])
    assert found.due(table("a"), "head", 1.0) == ([], [])
    found.failed("a")
    assert found.due(table("a"), "head", 2.0) == (["a"], [])


def test_it_lingers_after_the_last_replica_and_then_goes() -> None:
    found = ingresses()
    found.due(table("a"), "head", 0.0)
    assert found.due(table(), "head", LINGER_S) == ([], [])
    assert found.due(table(), "head", LINGER_S + 1) == ([], ["a"])
    assert found.due(table("a"), "head", LINGER_S + 2) == (["a"], [])


@pytest.mark.parametrize(
    ("host", "mode", "is_spread", "is_any"),
    [
        ("127.0.0.1", "auto", True, False),
        ("127.0.0.1", "replicas", True, True),
        ("0.0.0.0", "head", True, False),
        ("10.0.0.1", "auto", True, True),
        ("0.0.0.0", "auto", False, False),
    ],
)
def test_only_where_others_are_let_in_and_machines_are_their_own(host: str, mode: str, is_spread: bool, is_any: bool) -> None:
    assert bool(ingresses(host, mode, is_spread=is_spread).due(table("a"), "head", 0.0)[0]) is is_any
