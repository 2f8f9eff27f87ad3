"""How a command reads its settings, joins a fabric and prints: the same for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fabric import auth
from fabric.cli.lazy import Settings
from fabric.cli.own_output import own_output

if TYPE_CHECKING:
    from fabric.client import Client
    from fabric.config import FabricConfig, LoadedConfig

F = TypeVar("F", bound=Callable[..., Any])

address_option = click.option(
    "--address", metavar="HOST:PORT", help="The fabric's Ray head (default: FABRIC_ADDRESS, RAY_ADDRESS, else the twin that runs here)."
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="A table for people, or JSON."
)


def load(settings: Settings, **flags: Any) -> LoadedConfig:
    """The configuration; `flags` are settings by key (`dashboard__enabled`), None where the user gave none.

    Raises: ConfigError, UnknownNameError.
    """
    from fabric.config import load_config

    given = {key.replace("__", "."): value for key, value in flags.items() if value is not None}
    return load_config(settings.config_file, flags=given)


@contextmanager
def joined(config: FabricConfig, address: str | None) -> Iterator[Client]:
    """A client of the fabric at `address`, or of the twin that runs here. Raises: UnavailableError."""
    launch = ray_bound("fabric.launch")
    quiet = config.model_copy(update={"log_to_driver": False})  # a command runs no task whose output is wanted
    if auth.is_off():
        click.echo("WARNING: authentication is off (RAY_AUTH_MODE): whoever reaches this fabric may run code on it", err=True)
    with own_output():
        try:
            yield launch.join(address, quiet)
        finally:
            launch.disconnect()


def ray_bound(module: str) -> Any:
    """Import a module that imports Ray. Ray fixes its authentication when it is imported, hence this door."""
    auth.settle()
    return import_module(module)


def emit(document: Any, output: str, text: Callable[[], str]) -> None:
    """Print the JSON document, or the text made of it."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if output == "json" else text())
