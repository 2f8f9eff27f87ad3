"""`fabric model`."""

from __future__ import annotations

import click

from fabric.cli.lazy import LazyGroup

COMMANDS = {
    "deploy": ("fabric.cli.model_deploy:deploy", "Serve a model file, over REST and gRPC."),
    "list": ("fabric.cli.model_show:list_models", "Every served model."),
    "show": ("fabric.cli.model_show:show", "One model: versions, replicas, place, and why so many."),
    "logs": ("fabric.cli.model_show:logs", "The last lines of its replicas."),
    "delete": ("fabric.cli.model_show:delete", "End a model: all its versions."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def model() -> None:
    """Models that are served."""
