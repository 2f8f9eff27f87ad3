"""`fabric token`: create, list, revoke."""

from __future__ import annotations

import time
from typing import Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import emit, output_option

COMMANDS = {
    "create": ("fabric.cli.token:create", "Make a token; it is shown once."),
    "list": ("fabric.cli.token:list_tokens", "All tokens, but for their secrets."),
    "revoke": ("fabric.cli.token:revoke", "End a token."),
}
SCOPES = ("infer", "submit", "read", "operate", "admin")


@click.group(cls=LazyGroup, table=COMMANDS)
def token() -> None:
    """The tokens of the API: who may do what. On the machine of the fabric, none is needed."""


@click.command(cls=FabricCommand)
@click.option("--user", required=True, metavar="USER", help="Whose jobs it submits.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=["submit"], show_default=True, help="May be repeated.")
@click.option("-q", "--queue", "queues", multiple=True, metavar="QUEUE", help="Only in this queue; may be repeated.")
@click.option("--expires", metavar="TIME", help="From now: 30d (default: never).")
@click.option("--note", default="", metavar="TEXT", help="What it is for.")
@output_option
@click.pass_obj
def create(
    settings: Settings, user: str, scopes: tuple[str, ...], queues: tuple[str, ...], expires: str | None, note: str, output: str
) -> None:
    """Make a token for a user. It is shown here, once.

    infer: ask models. submit: own jobs, and ask models. read: see the jobs of all. operate: read, and cancel
    them and see their output. admin: everything.
    """
    wanted = {"user": user, "scopes": list(scopes), "queues": list(queues), "expires": expires, "note": note}
    made = client(settings).api.post("/v1/tokens", wanted, can_repeat=False)
    if output == "table":
        click.echo(f"token {made['id']} of {user}, for FABRIC_TOKEN; it is not shown again:", err=True)
    emit(made, output, lambda: str(made["token"]))


@click.command(cls=FabricCommand, name="list")
@output_option
@click.pass_obj
def list_tokens(settings: Settings, output: str) -> None:
    """All tokens, newest first, but for their secrets."""
    answer = client(settings).api.get("/v1/tokens")
    emit(answer, output, lambda: _table(answer["tokens"]))


@click.command(cls=FabricCommand)
@click.argument("token_id", metavar="ID")
@output_option
@click.pass_obj
def revoke(settings: Settings, token_id: str, output: str) -> None:
    """End a token: it opens nothing from now on."""
    from urllib.parse import quote

    answer = client(settings).api.delete(f"/v1/tokens/{quote(token_id, safe='')}")
    emit(answer, output, lambda: f"token {answer['id']} of {answer['user']} is revoked")


def _table(tokens: list[dict[str, Any]]) -> str:
    from fabric.fitted import fitted
    from fabric.job_form import ago

    now_s = time.time()
    rows = [
        [
            each["id"],
            each["user"],
            ",".join(each["scopes"]),
            ",".join(each["queues"]) or "all",
            _state(each, now_s),
            ago(each["last_used_s"], now_s),
            each["note"],
        ]
        for each in tokens
    ]
    most = {"id": 12, "user": 14, "scopes": 20, "queues": 14, "state": 16, "used": 12}
    return fitted(["id", "user", "scopes", "queues", "state", "used", "note"], rows, most=most)


def _state(each: dict[str, Any], now_s: float) -> str:
    from fabric.job_form import brief

    if each["revoked_s"] is not None:
        return "revoked"
    if each["expires_s"] is None:
        return "good"
    return "expired" if each["expires_s"] <= now_s else f"good for {brief(each['expires_s'] - now_s)}"
