"""`fabric model list|show|logs|delete`: over the API, without Ray."""

from __future__ import annotations

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option


@click.command(cls=FabricCommand, name="list")
@output_option
@click.pass_obj
def list_models(settings: Settings, output: str) -> None:
    """Every served model: its default version, where it runs, its replicas and their load."""
    from fabric.model_form import render_models

    document = client(settings).api.get("/v1/models")
    emit(document, output, lambda: render_models(document))


@click.command(cls=FabricCommand)
@click.argument("name")
@output_option
@click.pass_obj
def show(settings: Settings, name: str, output: str) -> None:
    """One model: what it takes and gives, its versions, its replicas, where they stand and why."""
    from fabric.model_form import render_model

    document = client(settings).api.get(f"/v1/models/{name}")
    emit(document, output, lambda: render_model(document))


@click.command(cls=FabricCommand)
@click.argument("name")
@click.option("--version", default="", metavar="VERSION", help="(default: the one that answers)")
@click.option("-n", "--lines", type=click.IntRange(1, 10_000), default=200, show_default=True)
@click.pass_obj
def logs(settings: Settings, name: str, version: str, lines: int) -> None:
    """The last lines that its replicas wrote, those that are gone included."""
    answer = client(settings).api.get(f"/v1/models/{name}/logs", {"version": version, "lines": lines})
    click.echo(answer["text"], nl=False)


@click.command(cls=FabricCommand)
@click.argument("name")
@click.pass_obj
def delete(settings: Settings, name: str) -> None:
    """End a model: no version of it answers any more; requests that run are finished."""
    client(settings).api.delete(f"/v1/models/{name}")
    click.echo(f"{name}: gone")
