"""A click group that imports a command's module only when the command is used.

Invariants: listing the commands (`--help`) imports none of them, so that it never waits for Ray, pydantic or rich; every
command takes `--config` and `--debug` before or after its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from fabric.errors import UnknownNameError


class Settings:
    """What the options that every command has were given as; travels as click's `ctx.obj`."""

    def __init__(self) -> None:
        self.config_file: Path | None = None
        self.is_debugging = False


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    settings = ctx.ensure_object(Settings)
    if param.name == "config" and value is not None:
        settings.config_file = value
    if param.name == "debug" and value:
        settings.is_debugging = True


def _everywhere() -> list[click.Parameter]:
    """The options of every command. `--config` is checked when it is read, so that its error looks like the others."""
    file = click.Path(path_type=Path)
    config = ["--config"], "The configuration file (default: FABRIC_CONFIG, else ./fabric.yaml)."
    debug = ["--debug"], "Show the traceback of an error."
    return [
        click.Option(config[0], type=file, metavar="FILE", help=config[1], expose_value=False, callback=_take),
        click.Option(debug[0], is_flag=True, help=debug[1], expose_value=False, callback=_take, is_eager=True),
    ]


class FabricCommand(click.Command):
    """A command with the options that every command has."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _everywhere()


class LazyGroup(click.Group):
    """`table`: command name -> (module:attribute, one line of help)."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table
        self.params += _everywhere()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.table and not args[0].startswith("-"):
            raise UnknownNameError.of("command", args[0], self.table)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in self.table.items()])
