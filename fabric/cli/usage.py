"""`fabric usage`."""

from __future__ import annotations

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option


@click.command(cls=FabricCommand)
@click.option("--by", type=click.Choice(["user", "queue"]), default="user", show_default=True, help="A row for each.")
@output_option
@click.pass_obj
def usage(settings: Settings, by: str, output: str) -> None:
    """What users or queues hold now and have used, in unit-hours and dollars."""
    from fabric.job_answers import render_usage

    document = client(settings).api.get("/v1/usage", {"by": by})
    emit(document, output, lambda: render_usage(document))
