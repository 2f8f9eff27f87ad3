"""`fabric config`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import emit, load, output_option

if TYPE_CHECKING:
    from fabric.config import LoadedConfig

COMMANDS = {
    "show": ("fabric.cli.config:show", "Every setting, its value and where that came from."),
    "crd": ("fabric.cli.config:crd", "The settings and the policy as kinds of a Kubernetes cluster."),
}
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^@]*(?=@)")


@click.group(cls=LazyGroup, table=COMMANDS)
def config() -> None:
    """The settings: flag over FABRIC_* over fabric.yaml over default."""


@click.command(cls=FabricCommand)
@output_option
@click.pass_obj
def show(settings: Settings, output: str) -> None:
    """Every setting, its value and where that came from: a file, a variable, or `default`.

    A key is also the name of its variable: `routing.refresh_s` is FABRIC_ROUTING__REFRESH_S.
    """
    rows = settings_of(load(settings))
    emit({"settings": rows}, output, lambda: _text(rows))


@click.command(cls=FabricCommand)
@click.argument("kind", required=False)
def crd(kind: str | None) -> None:
    """Print the CustomResourceDefinitions of TaskScheduler and HybridPolicy, or of one KIND: fabric config crd | kubectl apply -f -"""
    from fabric.kubernetes.crd import KINDS, as_yaml, kind_named

    click.echo(as_yaml(KINDS if kind is None else (kind_named(kind),)), nl=False)


def settings_of(loaded: LoadedConfig) -> list[dict[str, Any]]:
    """Pure: `{key, value, origin}` of every setting, in the order of the schema; passwords in URLs are masked."""
    return [
        {
            "key": key,
            "value": _PASSWORD.sub(r"\1:***", value) if isinstance(value, str) else value,
            "origin": loaded.origins.get(key, "default"),
        }
        for key, value in _leaves(loaded.config.model_dump(mode="json"))
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(rows: list[dict[str, Any]]) -> str:
    from fabric.show import table

    return table(["key", "value", "origin"], [[row["key"], _shown(row["value"]), row["origin"]] for row in rows])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value)
