"""A slow card is named as a card, a slow node as a node, and neither where all is well."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from fabric.plane.slow_nodes import SlowNodes
from fabric.policy import Policy
from fabric.status_form import fabric_json, format_status
from fabric.types import Node, Run
from profiler.slow_places import SlowPlaces

NODES = {name: Node(name, f"host-{name}", "hot", "a100-80g", {"CPU": 8.0, "GPU": 4.0}) for name in ("n1", "n2", "n3")}
CARDS = 4


def judged(slower: Callable[[str, int], float], seconds: int = 600) -> SlowPlaces:
    """Each card runs three tasks once a second."""
    luck, places = random.Random(0), SlowPlaces()
    places.look(NODES, 0.0)
    for now_s in range(1, seconds + 1):
        for node_id in NODES:
            for card in range(CARDS):
                for number in range(3):
                    wall_s = 0.2 * (number + 1) * slower(node_id, card) * math.exp(luck.gauss(0.0, 0.2))
                    run = Run("c", f"t{number}@1", 3, "gpu", "a100-80g", node_id, wall_s, wall_s, 0, card=card)
                    places.observe(run, float(now_s))
        if now_s % 5 == 0:
            places.look(NODES, float(now_s))
    return places


@pytest.mark.parametrize(
    ("slower", "named"),
    [
        (lambda node, card: 1.0, []),
        (lambda node, card: 2.0 if (node, card) == ("n2", 3) else 1.0, [("n2", 3)]),
        (lambda node, card: 2.0 if node == "n2" else 1.0, [("n2", None)]),
    ],
    ids=["all well", "one card", "a whole node"],
)
def test_what_is_slow_is_named_as_what_it_is(slower: Callable[[str, int], float], named: list[tuple[str, int | None]]) -> None:
    places = judged(slower)
    assert [(one.node_id, one.card) for one in places.named()] == named
    assert all(one.factor == pytest.approx(2.0, rel=0.2) for one in places.named())


def test_a_slow_card_is_told_and_its_node_stays_open() -> None:
    places = judged(lambda node, card: 3.0 if (node, card) == ("n1", 0) else 1.0)
    text = format_status(fabric_json("lab", "here", [], [], places.named()))
    assert "card 0 of node n1: " in text
    assert "slower than its like on a100-80g" in text
    policy = Policy(stragglers="cordon", slower_than=1.5)
    assert SlowNodes().decide(policy, places.named(), NODES, 1000.0) == []
    places.forget("n1")
    assert places.named() == []


def test_cards_of_nodes_that_are_gone_are_forgotten() -> None:
    places = judged(lambda node, card: 3.0 if (node, card) == ("n1", 0) else 1.0)
    assert places.look({"n2": NODES["n2"], "n3": NODES["n3"]}, 605.0) == []
