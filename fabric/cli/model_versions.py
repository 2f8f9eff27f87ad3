"""`fabric model alias|versions|search|deprecate|unregister`: what is registered, and what it is called; over the API, without Ray."""

from __future__ import annotations

from itertools import islice

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.model_register import document_of, metadata_option, pairs_of, registry
from fabric.cli.session import emit, output_option

SHOWN = 100


@click.command(cls=FabricCommand)
@click.argument("name")
@click.argument("aliases", nargs=-1, required=True, metavar="ALIAS=VERSION...")
@output_option
@click.pass_obj
def alias(settings: Settings, name: str, aliases: tuple[str, ...], output: str) -> None:
    """Let aliases stand for versions, all in one step: champion=2 challenger=3. champion= takes it away."""
    from fabric.api.registry_schema import model_json
    from fabric.registry.names import parse_aliases
    from fabric.registry_form import render_aliases

    made = registry(settings).set_aliases(name, parse_aliases(aliases))
    emit(model_json(made), output, lambda: render_aliases(made))


@click.command(cls=FabricCommand)
@click.argument("name")
@output_option
@click.pass_obj
def versions(settings: Settings, name: str, output: str) -> None:
    """Every version of a name, the newest first, deprecated ones too."""
    from fabric.registry_form import render_versions

    here = registry(settings)
    here.model(name)  # so that a name that nobody knows is not an empty list
    found = list(here.all(name=name, state="any"))
    emit({"versions": [document_of(version) for version in found]}, output, lambda: render_versions(found))


@click.command(cls=FabricCommand)
@click.argument("text", nargs=-1, metavar="[WORD]...")
@metadata_option
@click.option("--framework", default="", metavar="WORD", help="onnx, torchscript, …")
@click.option("--alias", "alias_", default="", metavar="ALIAS", help="Only what is called so: champion.")
@click.option("--state", type=click.Choice(["active", "deprecated", "any"]), default="active", show_default=True)
@click.option(
    "--sort", default="-created", show_default=True, metavar="KEY", help="created, name, size or metric:NAME; - before it: highest first."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=SHOWN, show_default=True)
@output_option
@click.pass_obj
def search(
    settings: Settings,
    text: tuple[str, ...],
    metadata: tuple[str, ...],
    framework: str,
    alias_: str,
    state: str,
    sort: str,
    limit: int,
    output: str,
) -> None:
    """Versions with all these words in name, framework, source or metadata."""
    from fabric.registry_form import render_versions

    page = min(limit, 1000)
    asked = {"metadata": pairs_of(metadata), "framework": framework, "alias": alias_, "state": state, "sort": sort}
    found = list(islice(registry(settings).all(" ".join(text), limit=page, **asked), limit))
    emit({"versions": [document_of(version) for version in found]}, output, lambda: render_versions(found))


@click.command(cls=FabricCommand)
@click.argument("ref", metavar="NAME:VERSION")
@click.option("--why", default="", metavar="TEXT", help="Shown wherever the version is.")
@click.option("--undo", is_flag=True, help="Make it active again.")
@output_option
@click.pass_obj
def deprecate(settings: Settings, ref: str, why: str, undo: bool, output: str) -> None:
    """Mark a version as one that nobody should begin to use: `latest` and a search pass over it."""
    made = registry(settings).mark(ref, "active" if undo else "deprecated", why=why)
    emit(document_of(made), output, lambda: f"{made.ref} is {made.state}")


@click.command(cls=FabricCommand)
@click.argument("ref", metavar="NAME:VERSION")
@click.pass_obj
def unregister(settings: Settings, ref: str) -> None:
    """Delete a version; its number is never given again. Refused while it is deployed or has an alias."""
    registry(settings).delete(ref)
    click.echo(f"{ref}: gone")
