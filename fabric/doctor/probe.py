"""Gathers the facts of a running cluster. Nothing here judges, and nothing is started anew."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fabric import auth, launch, ray_io
from fabric.config import FabricConfig
from fabric.doctor.check import skew_s
from fabric.doctor.cluster import ClusterFacts, NodeAnswer
from fabric.errors import FabricError
from fabric.status import read_shipping
from fabric.types import Node, PoolSnapshot

NODE_TIMEOUT_S = 30.0
ACTOR_TIMEOUT_S = 10.0


def probe(config: FabricConfig, address: str) -> ClusterFacts:
    """Look at the cluster that this process is connected to."""
    nodes = ray_io.living_nodes()
    pools, actors = _actors(config)
    leaving = {node.node_id for pool in pools for node in pool.nodes if node.health == "draining"}
    ids = [node.node_id for node in nodes if node.node_id not in leaving]
    _ask_nodes(ids)  # starts a worker on each node, so that the second answer comes at once and its clock can be read
    return ClusterFacts(
        address=address,
        here=_answer(answer(), 0.0, float("inf")),
        nodes=nodes,
        answers=_ask_nodes(ids),
        actors=actors,
        silent=_silent(pools),
        is_auth_enforced=is_auth_enforced(address),
        shipping=read_shipping(),
    )


def answer() -> tuple[str, str, str, float]:
    """Run on each node: Ray, Python and tierfabric there, and its wall clock."""
    return version("ray"), platform.python_version(), version("tierfabric"), time.time()


def _ask_nodes(node_ids: Sequence[str]) -> dict[str, NodeAnswer | str]:
    asked_s = time.time()
    waiting = {launch.on_node(node_id, answer): node_id for node_id in node_ids}
    answers: dict[str, NodeAnswer | str] = dict.fromkeys(node_ids, f"no answer within {NODE_TIMEOUT_S:g} s")
    deadline_s = time.monotonic() + NODE_TIMEOUT_S
    while waiting and (left_s := deadline_s - time.monotonic()) > 0:
        for ref in ray_io.wait_any(list(waiting), left_s):
            answers[waiting.pop(ref)] = _heard(ref, asked_s)
    return answers


def _heard(ref: Any, asked_s: float) -> NodeAnswer | str:
    try:
        heard: tuple[str, str, str, float] = ray_io.ask(ref)
    except Exception as error:  # a node without tierfabric raises whatever its import raises
        return ray_io.describe_exception(error)
    return _answer(heard, asked_s, time.time())


def _answer(said: tuple[str, str, str, float], asked_s: float, heard_s: float) -> NodeAnswer:
    ray, python, tierfabric, there_s = said
    return NodeAnswer(ray, python, tierfabric, skew_s(asked_s, there_s, heard_s))


def _actors(config: FabricConfig) -> tuple[list[PoolSnapshot], dict[str, str]]:
    """The pools' snapshots, and each actor's problem (empty: it answers)."""
    asked: dict[str, Any] = {}
    for name, method in [*((f"pool-{tier}", "snapshot") for tier in config.tier_names), ("profiler", "ping")]:
        try:
            asked[name] = getattr(ray_io.actor(name), method).remote()
        except FabricError as error:
            asked[name] = error
    pools, problems = [], {}
    for name, ref in asked.items():
        try:
            heard = None if isinstance(ref, FabricError) else ray_io.ask(ref, timeout_s=ACTOR_TIMEOUT_S)
            problems[name] = ref.message if isinstance(ref, FabricError) else ""
        except FabricError as error:
            heard, problems[name] = None, error.message
        if isinstance(heard, PoolSnapshot):
            pools.append(heard)
    return pools, problems


def _silent(pools: Sequence[PoolSnapshot]) -> list[str]:
    nodes: list[Node] = [node for pool in pools for node in pool.nodes]
    return sorted({node.host for node in nodes if node.usage is None and not node.is_resting})


def is_auth_enforced(address: str) -> bool | None:
    """Ask the head for something without a token: it refuses where authentication is on."""
    import grpc

    with auth.head_channel(address) as channel:
        check = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            check(b"", timeout=ray_io.CONNECT_TIMEOUT_S)
        except grpc.RpcError as error:
            return True if error.code() == grpc.StatusCode.UNAUTHENTICATED else None
    return False
