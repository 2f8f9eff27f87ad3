"""`fabric console`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.job_options import client, pairs
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, load, output_option
from fabric.errors import ConfigError, RejectedError, UnavailableError

if TYPE_CHECKING:
    from fabric.config import FabricConfig

PAGES = ("overview", "nodes", "series", "timeline", "jobs", "tasks")
SCOPES = ("submit", "read", "operate", "admin")
EXPIRES = "12h"


@click.command(cls=FabricCommand)
@click.option("--scope", type=click.Choice(SCOPES), default="operate", show_default=True, help="What the page may do.")
@click.option("--expires", default=EXPIRES, show_default=True, metavar="TIME", help="How long its token is good.")
@click.option("--open/--no-open", "is_opened", default=True, show_default=True, help="Open it in this machine's browser.")
@click.option("--show", type=click.Choice(PAGES), help="Print what a view shows, as JSON, instead of opening it.")
@click.option("--where", "wanted", multiple=True, metavar="KEY=VALUE", help="With --show: which part, such as tier=hot; may be repeated.")
@output_option
@click.pass_obj
def console(settings: Settings, scope: str, expires: str, is_opened: bool, show: str | None, wanted: tuple[str, ...], output: str) -> None:
    """Open the console of the fabric on this machine, with a token that is made for it.

    Whoever has the printed address has what its token may do: do not pass it on. `fabric token revoke` ends it. From another
    machine: ssh -L PORT:127.0.0.1:PORT to this one, and the same address there.
    """
    from fabric.config import api_from_environment
    from fabric.console.address import CONSOLE_FILE, read_console, with_token

    config = load(settings).config
    if elsewhere := api_from_environment()[0] or config.api.url:
        hint = "run `fabric console --no-open` there, and forward its port: ssh -L PORT:127.0.0.1:PORT"
        raise UnavailableError(f"the fabric at {elsewhere} shows its console on its own machine", code="no_console", hint=hint)
    url = read_console(config.state_path / CONSOLE_FILE)
    if show is not None:
        document = _shown(url, config, show, pairs("where", wanted))
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    if wanted:
        raise ConfigError("--where is for --show", code="usage", hint="fabric console --show nodes --where tier=hot")
    scopes = [scope] if scope in ("submit", "admin") else [scope, "submit"]
    asked = {"user": config.user, "scopes": scopes, "expires": expires, "note": "console"}
    try:
        made = client(settings).api.post("/v1/tokens", asked, can_repeat=False)
    except RejectedError as error:
        if error.code != "forbidden":
            raise
        click.echo("hint: your token may make no others: paste it into the page, or ask an admin for one", err=True)
        made = {"token": None, "id": None, "scopes": [], "expires_s": None}
    address = url if made["token"] is None else with_token(url, made["token"])
    document = {"url": url, "address": address, "token_id": made["id"], "scopes": made["scopes"], "expires_s": made["expires_s"]}
    emit(document, output, lambda: address)
    if is_opened and output == "table":
        click.launch(address)


def _shown(url: str, config: FabricConfig, page: str, query: dict[str, str]) -> Any:
    """What the page at `url` reads for this view, with one's own token."""
    from fabric.api_client import ApiClient, token_of, transport_to

    return ApiClient(transport_to(url, config), token_of(config), patience_s=0.0).get(f"/v1/console/{page}", query)
