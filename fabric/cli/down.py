"""`fabric down`."""

from __future__ import annotations

import time

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import load


@click.command(cls=FabricCommand)
@click.pass_obj
def down(settings: Settings) -> None:
    """End the twin that `fabric up` started, with everything that runs on it. Does nothing where none runs."""
    from fabric import twin
    from fabric.show import duration

    config = load(settings).config
    started_s = time.monotonic()
    if twin.stop(config):
        click.echo(f"down, in {duration(time.monotonic() - started_s)}")
    else:
        click.echo(f"no twin runs here (state directory {config.state_path})")
