"""The pages that act on nodes: who may, which node is meant, and that the same order again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabric.api.app import create_app
from fabric.errors import RejectedError
from fabric.node_orders import Order, is_needed, pick
from fabric.plane.nodes import node_form
from fabric.types import Node
from tests.api_world import World, a_world
from tests.asgi_transport import AsgiTransport
from tests.fleet import COLD, HOT, node


class Pools:
    """Two nodes that do at once what they are told."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {each.node_id: each for each in (node("aaaa1111", HOT), node("bbbb2222", COLD))}
        self.orders: list[tuple[str, Order, str, float]] = []

    def order(self, name: str, order: Order, by: str, deadline_s: float) -> Mapping[str, Any]:
        found = pick(self.nodes.values(), name)
        changes = is_needed(found, order)
        if changes:
            self.orders.append((found.node_id, order, by, deadline_s))
            health: Any = {"cordon": "cordoned", "uncordon": "ready", "drain": "draining"}[order]
            found = self.nodes[found.node_id] = replace(found, health=health)
        return node_form(found, changes)


@pytest.fixture
def pools() -> Pools:
    return Pools()


@pytest.fixture
def world(tmp_path: Path, pools: Pools) -> Iterator[World]:
    with a_world(tmp_path, runs=False) as made:
        made.transport.close()
        made.transport = AsgiTransport(create_app(made.plane, made.tokens, nodes=pools))
        yield made


def order(world: World, user: str | None, name: str, what: str, body: Any = None) -> tuple[int, Any]:
    reply = world.ask(user, "POST", f"/v1/nodes/{name}/{what}", b"" if body is None else json.dumps(body).encode())
    return reply.status, json.loads(reply.body)


def test_an_operator_cordons_a_node_and_again_changes_nothing(world: World, pools: Pools) -> None:
    assert order(world, "ops", "aaaa", "cordon") == (
        200,
        {
            "node_id": "aaaa1111", "host": "host-aaaa1111", "tier": "hot", "flavor": "big", "twin": False,
            "health": "cordoned", "changed": True,
        },
    )  # fmt: skip
    status, again = order(world, "root", "host-aaaa1111", "cordon")
    assert (status, again["health"], again["changed"]) == (200, "cordoned", False)
    assert order(world, "ops", "aaaa1111", "uncordon")[1]["health"] == "ready"
    assert [(name, what, by) for name, what, by, _ in pools.orders] == [("aaaa1111", "cordon", "ops"), ("aaaa1111", "uncordon", "ops")]


def test_draining_has_a_deadline_and_is_final(world: World, pools: Pools) -> None:
    assert order(world, "ops", "bbbb", "drain", {"deadline_s": 60})[1]["health"] == "draining"
    assert order(world, "ops", "bbbb", "drain")[1]["changed"] is False
    assert pools.orders == [("bbbb2222", "drain", "ops", 60.0)]
    assert order(world, "ops", "bbbb", "uncordon")[0] == 409 and order(world, "ops", "bbbb", "uncordon")[1]["code"] == "node_draining"


@pytest.mark.parametrize("what", ["cordon", "uncordon", "drain"])
def test_who_may_not_operate_changes_nothing(world: World, pools: Pools, what: str) -> None:
    assert [order(world, user, "aaaa", what)[0] for user in (None, "nobody", "ann", "bob")] == [401, 401, 403, 403]
    assert pools.orders == []


@pytest.mark.parametrize(
    ("name", "what", "body", "status", "code"),
    [
        ("cccc", "cordon", None, 404, "unknown_node"),
        ("aaa", "cordon", None, 404, "unknown_node"),
        ("aaaa", "reboot", None, 404, "no_such_page"),
        ("aaaa", "drain", {"deadline": 5}, 400, "unknown_key"),
        ("aaaa", "drain", {"deadline_s": -1}, 400, "bad_deadline_s"),
    ],
)
def test_what_cannot_be_is_refused(world: World, pools: Pools, name: str, what: str, body: Any, status: int, code: str) -> None:
    answered, refusal = order(world, "ops", name, what, body)
    assert (answered, refusal["code"]) == (status, code) and pools.orders == []


def test_where_there_are_no_pools_no_node_is_known(tmp_path: Path) -> None:
    with a_world(tmp_path, runs=False) as world:
        assert order(world, "ops", "aaaa", "cordon")[1]["code"] == "unknown_node"


def test_a_draining_node_takes_no_order_back() -> None:
    leaving = replace(node("aaaa1111", HOT), health="draining")
    assert not is_needed(leaving, "cordon") and not is_needed(leaving, "drain")
    with pytest.raises(RejectedError):
        is_needed(leaving, "uncordon")
