"""`fabric node cordon` and `fabric node uncordon`, and how a node is found by what the user calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, joined, load, ray_bound
from fabric.errors import FabricError, UnknownNameError
from fabric.node_orders import describe, is_needed, pick

if TYPE_CHECKING:
    from fabric.client import Client
    from fabric.types import Node


@click.command(cls=FabricCommand)
@click.argument("name", metavar="NODE")
@address_option
@click.pass_obj
def cordon(settings: Settings, name: str, address: str | None) -> None:
    """Route no new work to NODE: an id (its first 4 digits or more) or a host name. What runs there goes on."""
    config = load(settings).config
    with joined(config, address) as client:
        node = find_node(client, name)
        if not is_needed(node, "cordon"):
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
        if not is_needed(node, "uncordon"):
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


def ask_pool(node: Node, method: str, *args: Any, timeout_s: float = 30.0) -> Node:
    """Have the node's pool do it; the node as it is then."""
    ray_io = ray_bound("fabric.ray_io")
    pool = ray_io.actor(f"pool-{node.tier}")
    changed: Node = ray_io.ask(getattr(pool, method).remote(node.node_id, *args), timeout_s=timeout_s)
    return changed
