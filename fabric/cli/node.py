"""`fabric node`."""

from __future__ import annotations

import click

from fabric.cli.lazy import LazyGroup

COMMANDS = {
    "labels": ("fabric.cli.node_describe:labels", "This machine's tier and flavor, for `ray start --labels`."),
    "resources": ("fabric.cli.node_describe:resources", "This machine's accelerators, for `ray start --resources`."),
    "cordon": ("fabric.cli.node_marks:cordon", "Route no new work to a node."),
    "uncordon": ("fabric.cli.node_marks:uncordon", "Route work to it again."),
    "drain": ("fabric.cli.node_drain:drain", "Let a node finish what it runs, then leave the cluster."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def node() -> None:
    """Nodes: what this machine is to the fabric, and which nodes take new work."""
