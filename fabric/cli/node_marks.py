"""`fabric node cordon` and `fabric node uncordon`, and how a node is found by what the user calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, joined, load, ray_bound
from fabric.errors import FabricError, RejectedError, UnknownNameError, UserError

if TYPE_CHECKING:
    from fabric.client import Client
    from fabric.types import Node

LEAST_PREFIX = 4


@click.command(cls=FabricCommand)
@click.argument("name", metavar="NODE")
@address_option
@click.pass_obj
def cordon(settings: Settings, name: str, address: str | None) -> None:
    """Route no new work to NODE: an id (its first 4 digits or more) or a host name. What runs there goes on."""
    config = load(settings).config
    with joined(config, address) as client:
        node = find_node(client, name)
        if node.health != "ready":
            click.echo(f"{describe(node)} is {node.health} already")
            return
        click.echo(f"{describe(ask_pool(node, 'cordon', config.user))}: cordoned, no new work is routed there")


@click.command(cls=FabricCommand)
@click.argument("name", metavar="NODE")
@address_option
@click.pass_obj
def uncordon(settings: Settings, name: str, address: str | None) -> None:
    """Route work to NODE again."""
    config = load(settings).config
    with joined(config, address) as client:
        node = find_node(client, name)
        if node.health == "draining":
            raise RejectedError(f"{describe(node)} is draining, which is final", code="node_draining", hint="start the node anew")
        if node.health == "ready":
            click.echo(f"{describe(node)} is not cordoned")
            return
        click.echo(f"{describe(ask_pool(node, 'uncordon', config.user))}: ready, work is routed there again")


def find_node(client: Client, name: str) -> Node:
    """Ask every pool for its nodes and pick the one meant. Raises: UnknownNameError, UserError, UnavailableError."""
    answers = ray_bound("fabric.status").read_pools(client)
    try:
        return pick([node for answer in answers.values() if not isinstance(answer, FabricError) for node in answer.nodes], name)
    except UnknownNameError:
        for answer in answers.values():
            if isinstance(answer, FabricError):
                raise answer from None  # it may be a node of the pool that did not answer
        raise


def pick(nodes: Iterable[Node], name: str) -> Node:
    """Pure: the node with this id, id prefix or host. Raises: UnknownNameError, UserError where several answer to it."""
    nodes = list(nodes)
    wanted = name.lower()
    matches = [node for node in nodes if node.host == name or (len(name) >= LEAST_PREFIX and node.node_id.startswith(wanted))]
    if not matches:
        raise UnknownNameError.of("node", name, {short for node in nodes for short in (node.node_id[:8], node.host)})
    if len(matches) > 1:
        listed = ", ".join(f"{node.node_id[:8]} ({node.tier}/{node.flavor})" for node in matches)
        raise UserError(f"{name!r} names {len(matches)} nodes", code="ambiguous_node", hint=f"say which: {listed}")
    return matches[0]


def ask_pool(node: Node, method: str, *args: Any, timeout_s: float = 30.0) -> Node:
    """Have the node's pool do it; the node as it is then."""
    ray_io = ray_bound("fabric.ray_io")
    pool = ray_io.actor(f"pool-{node.tier}")
    changed: Node = ray_io.ask(getattr(pool, method).remote(node.node_id, *args), timeout_s=timeout_s)
    return changed


def describe(node: Node) -> str:
    return f"node {node.node_id[:8]} ({node.host}, {node.tier}/{node.flavor}{' twin' if node.is_twin else ''})"
