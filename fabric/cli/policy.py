"""`fabric policy`: apply, show, history, rollback; `what-if` is in a file of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import emit, output_option
from fabric.errors import UserError

COMMANDS = {
    "apply": ("fabric.cli.policy:apply", "Apply a policy document, live."),
    "show": ("fabric.cli.policy:show", "The policy in force."),
    "history": ("fabric.cli.policy:history", "Every version that was in force."),
    "rollback": ("fabric.cli.policy:rollback", "Apply an older version anew."),
    "what-if": ("fabric.cli.policy_what_if:what_if", "Replay the last day under another policy, beside the one in force."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def policy() -> None:
    """Who goes first and who may hold how much: one document, applied live and versioned."""


@click.command(cls=FabricCommand)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@output_option
@click.pass_obj
def apply(settings: Settings, file: Path, output: str) -> None:
    """Apply the policy in FILE (- reads standard input). One with a mistake is refused, and the one in force stays."""
    text = read_file(file)
    answer = client(settings).api.put("/v1/policy", text, "application/yaml", can_repeat=False)
    emit(answer, output, lambda: f"version {answer['version']} is in force")


@click.command(cls=FabricCommand)
@output_option
@click.pass_obj
def show(settings: Settings, output: str) -> None:
    """The policy in force, as its user wrote it."""
    import yaml

    answer = client(settings).api.get("/v1/policy")
    emit(answer, output, lambda: f"# {_told(answer)}\n{yaml.safe_dump(answer['document'], sort_keys=False, allow_unicode=True)}".rstrip())


@click.command(cls=FabricCommand)
@output_option
@click.pass_obj
def history(settings: Settings, output: str) -> None:
    """Every version that was in force, newest first."""
    answer = client(settings).api.get("/v1/policy/history")
    emit(answer, output, lambda: _table(answer["versions"]))


@click.command(cls=FabricCommand)
@click.argument("version", type=int, required=False)
@output_option
@click.pass_obj
def rollback(settings: Settings, version: int | None, output: str) -> None:
    """Apply an older VERSION anew, by default the one before this. It becomes a new version."""
    answer = client(settings).api.post("/v1/policy/rollback", {"version": version}, can_repeat=False)
    emit(answer, output, lambda: f"version {answer['version']} is in force")


def read_file(file: Path) -> bytes:
    """What a user named; - is standard input. Raises: UserError (`policy_not_found`)."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", code="policy_not_found") from error


def _told(version: dict[str, Any]) -> str:
    from fabric.job_form import ago

    return f"version {version['version']}, applied by {version['by']} {ago(version['applied_s'], time.time())}"


def _table(versions: list[dict[str, Any]]) -> str:
    from fabric.fitted import fitted
    from fabric.job_form import ago

    now_s = time.time()
    rows = [
        [str(each["version"]), str((each["document"].get("metadata") or {}).get("name", "-")), each["by"], ago(each["applied_s"], now_s)]
        for each in versions
    ]
    return fitted(["version", "policy", "by", "applied"], rows, most={"version": 8, "policy": 40, "by": 20}, right=["version"])
