"""`fabric node drain`."""

from __future__ import annotations

import re
import sys

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.node_marks import ask_pool, find_node
from fabric.cli.session import address_option, joined, load
from fabric.errors import UserError
from fabric.node_orders import describe, is_needed

DRAIN_TIMEOUT_S = 90.0
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
_SPAN = re.compile(r"(\d+)\s*([smh]?)")


@click.command(cls=FabricCommand)
@click.argument("name", metavar="NODE")
@click.option("--deadline", default="300s", show_default=True, metavar="TIME", help="When the machine goes at the latest: 300s, 5m, 1h.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@address_option
@click.pass_obj
def drain(settings: Settings, name: str, deadline: str, yes: bool, address: str | None) -> None:
    """Let NODE finish what it runs, then leave the cluster. Final: the node comes back only when it is started anew.

    Ray is told the deadline, and counts what still runs then as lost with the node; it ends nothing by itself.
    """
    config = load(settings).config
    deadline_s = seconds(deadline)
    if not yes and not sys.stdin.isatty():
        raise UserError("drain is final and nobody is there to confirm it", code="not_confirmed", hint="--yes drains without asking")
    with joined(config, address) as client:
        node = find_node(client, name)
        if not is_needed(node, "drain"):
            click.echo(f"{describe(node)} is draining already")
            return
        if not yes:
            click.confirm(f"drain {describe(node)}? It leaves the cluster when its work is done", abort=True)
        node = ask_pool(node, "drain", config.user, deadline_s, timeout_s=DRAIN_TIMEOUT_S)
        click.echo(f"{describe(node)}: draining; it leaves when its work is done (`fabric status`)")


def seconds(span: str) -> float:
    """`300s`, `5m`, `1h` or plain seconds. Raises: UserError."""
    match = _SPAN.fullmatch(span.strip().lower())
    if match is None:
        raise UserError(f"{span!r} is not a length of time", code="bad_duration", hint="300s, 5m or 1h")
    return float(int(match[1]) * _UNITS_S[match[2]])
