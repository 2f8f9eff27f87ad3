"""`fabric model register|import|export|fetch`: versions into the registry and out of it, over the API, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, load, output_option
from fabric.errors import UserError

if TYPE_CHECKING:
    from fabric.registry.version import ModelVersion
    from serve_apps.registry.client import ModelRegistry

metadata_option = click.option("--metadata", multiple=True, metavar="K=V[,K=V]", help="What it is, in words: task=cv; may be repeated.")


def registry(settings: Settings) -> ModelRegistry:
    """The registry of the fabric that the settings name. Raises: ConfigError."""
    from serve_apps.registry.client import ModelRegistry

    return ModelRegistry(config=load(settings).config, tell=_say)


@click.command(cls=FabricCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What it is called (default: the file's name).")
@metadata_option
@click.option("--metric", "metrics", multiple=True, metavar="NAME=NUMBER", help="What was measured: accuracy=0.93; may be repeated.")
@click.option("--source", metavar="URL", help="Where it came from (default: the file).")
@click.option("--no-load", is_flag=True, help="Do not load it to see what it takes and gives.")
@output_option
@click.pass_obj
def register(
    settings: Settings,
    file: Path,
    name: str | None,
    metadata: tuple[str, ...],
    metrics: tuple[str, ...],
    source: str | None,
    no_load: bool,
    output: str,
) -> None:
    """Keep a model file or folder as the next version of a name. Prints what it is called from now on.

    The weights beside an ONNX file go with it. It is loaded once, here, to read its signature.
    """
    from serve_apps.model_file import model_name

    said, measured = pairs_of(metadata), numbers_of(metrics)
    made = registry(settings).register(
        file, name=name or model_name(file), metadata=said, metrics=measured, source=source, loads=not no_load
    )
    emit(document_of(made), output, lambda: made.ref)


@click.command(cls=FabricCommand, name="import")
@click.argument("place", metavar="mlflow:URI[#NAME[:VERSION]]|triton:FOLDER")
@click.option("--name", metavar="NAME", help="What it is called here, where it is one model.")
@output_option
@click.pass_obj
def import_models(settings: Settings, place: str, name: str | None, output: str) -> None:
    """Register the versions of an MLflow registry, or of a Triton model repository.

    What was imported before is not registered again.
    """
    from serve_apps.registry.elsewhere import parse_place, take_in

    there = parse_place(place)
    if there.kind == "triton":
        from serve_apps.registry.triton import triton_models as models_of
    else:
        from serve_apps.registry.mlflow_models import mlflow_models as models_of
    made = list(take_in(registry(settings), models_of(there, _say), say=_say, name=name or ""))
    emit(
        [document_of(version) for version in made], output, lambda: "\n".join(version.ref for version in made) or "nothing was found there"
    )


@click.command(cls=FabricCommand, name="export")
@click.argument("ref", metavar="NAME:VERSION")
@click.argument("place", metavar="mlflow:URI[#NAME]")
@output_option
@click.pass_obj
def export_model(settings: Settings, ref: str, place: str, output: str) -> None:
    """Put a version into an MLflow registry, with its metrics, metadata and aliases."""
    from serve_apps.registry.elsewhere import parse_place
    from serve_apps.registry.mlflow_models import export_to_mlflow

    there = parse_place(place)
    if there.kind != "mlflow":
        raise UserError("a version is exported to MLflow", code="bad_place", hint="mlflow:http://host:5000#resnet")
    made = export_to_mlflow(registry(settings), ref, there)
    emit({"name": made.rpartition(":")[0], "version": made.rpartition(":")[2]}, output, lambda: made)


@click.command(cls=FabricCommand)
@click.argument("ref", metavar="NAME[:VERSION|:ALIAS]")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@output_option
@click.pass_obj
def fetch(settings: Settings, ref: str, folder: Path, output: str) -> None:
    """Bring the files of a version to a folder here. Prints the file (or folder) that is loaded."""
    path = registry(settings).fetch(ref, folder)
    emit({"path": str(path)}, output, lambda: str(path))


def pairs_of(words: Sequence[str]) -> dict[str, str]:
    """`task=cv,dataset=imagenet` -> a mapping; a comma inside a value may stay there. Raises: UserError (`bad_metadata`)."""
    found: dict[str, str] = {}
    for word in words:
        key = ""
        for part in word.split(","):
            name, equals, value = part.partition("=")
            if equals and name:
                key = name.strip()
                found[key] = value
            elif key:
                found[key] += f",{part}"
            else:
                raise UserError(f"--metadata {word[:80]!r} is not K=V", code="bad_metadata", hint="--metadata task=cv,dataset=imagenet")
    return found


def numbers_of(words: Sequence[str]) -> dict[str, float]:
    """`accuracy=0.93` -> a mapping. Raises: UserError (`bad_metrics`)."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise UserError(f"--metric {word[:80]!r} is not NAME=NUMBER", code="bad_metrics", hint="--metric accuracy=0.93")
    return found


def document_of(version: ModelVersion) -> dict[str, object]:
    """The API's form of a version, with how it is called."""
    from fabric.api.registry_schema import version_json

    return {"ref": version.ref, **version_json(version)}


def _say(line: str) -> None:
    click.echo(line, err=True)
