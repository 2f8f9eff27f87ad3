"""`fabric logs`."""

from __future__ import annotations

import sys

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings


@click.command(cls=FabricCommand)
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True, help="Of which of its processes.")
@click.pass_obj
def logs(settings: Settings, job: str, follow: bool, rank: int) -> None:
    """What a job has printed, while it runs and long after."""
    found = client(settings).find(job)
    for chunk in found.logs(follow=follow, rank=rank).chunks():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
