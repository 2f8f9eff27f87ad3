"""`fabric usage`."""

from __future__ import annotations

from pathlib import Path

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option


@click.command(cls=FabricCommand)
@click.option("--by", type=click.Choice(["user", "queue", "model"]), default="user", show_default=True, help="A row for each.")
@click.option("--export", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write it to FILE instead: .csv or .parquet.")
@output_option
@click.pass_obj
def usage(settings: Settings, by: str, file: Path | None, output: str) -> None:
    """What users or queues hold now, and have used in hours of accelerators and of CPUs, and dollars; what served models cost."""
    from fabric.usage_form import render_usage

    jobs = client(settings)
    if file is not None:
        document = {"file": str(file), "by": by, "bytes": jobs.export_usage(file, by)}
        emit(document, output, lambda: f"usage by {by} written to {file}: {document['bytes']:,} bytes")
        return
    form = jobs.usage(by).as_json()
    emit(form, output, lambda: render_usage(form))
