"""`fabric down`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import load


@click.command(cls=FabricCommand)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-y", "--yes", is_flag=True, help="Do not ask (only asked with FILE).")
@click.pass_context
def down(ctx: click.Context, file: Path | None, yes: bool) -> None:
    """End what `fabric up` started, with everything that runs on it. Does nothing where none runs.

    With FILE: the cluster of that file. Without: the twin on this machine.
    """
    from fabric import twin
    from fabric.show import duration

    settings: Settings = ctx.obj
    if file is not None:
        from fabric.cli.cluster_up import down_file

        ctx.exit(down_file(file, is_sure=yes))
    config = load(settings).config
    started_s = time.monotonic()
    if twin.stop(config):
        click.echo(f"down, in {duration(time.monotonic() - started_s)}")
    else:
        click.echo(f"no twin runs here (state directory {config.state_path})")
