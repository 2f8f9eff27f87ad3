"""`fabric console`: the address that it prints, and what it says where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fabric.api.address import write_address
from fabric.api_client import Body, Reply
from fabric.cli.main import Root
from fabric.console.address import CONSOLE_FILE, last_port
from tests.api_world import World, a_world
from tests.console_world import HOST, ConsoleWorld, a_console

URL = "http://127.0.0.1:4321"


@click.group(cls=Root, name="fabric", table={"console": ("fabric.cli.console:console", "")})
def cli() -> None:
    """All that is tested here."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open."""
    found: list[str] = []
    monkeypatch.setattr(click, "launch", found.append)
    return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> Iterator[World]:
    with a_world(tmp_path / "fabric", runs=False) as made:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("FABRIC_TOKEN", made.secrets["root"])
        monkeypatch.setattr("fabric.api_client.transport_to", lambda *_: made.transport)
        write_address(tmp_path / "state" / CONSOLE_FILE, URL)
        yield made


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["console", *args])


def as_json(*args: str) -> Any:
    result = run("-o", "json", *args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_opens_the_page_with_a_token_that_is_made_for_it(world: World, opened: list[str]) -> None:
    result = run()
    address = result.stdout.strip()
    assert result.exit_code == 0 and opened == [address] and address.startswith(f"{URL}/#token=tf_")
    who = world.tokens.principal(address.partition("=")[2])
    assert who.scopes == {"operate", "read", "submit", "infer"}
    record = next(each for each in world.tokens.listed() if each.note == "console")
    assert record.expires_s is not None and record.expires_s - record.created_s == pytest.approx(12 * 3600)


@pytest.mark.parametrize(("scope", "scopes"), [("submit", ["submit"]), ("read", ["read", "submit"]), ("admin", ["admin"])])
def test_the_token_has_the_scope_that_is_asked_for(world: World, opened: list[str], scope: str, scopes: list[str]) -> None:
    document = as_json("--scope", scope, "--expires", "1h")
    assert (document["url"], document["scopes"]) == (URL, scopes) and opened == [], "who wants JSON wants no browser"
    assert document["address"] == f"{URL}/#token={document['address'].partition('=')[2]}" and document["token_id"] in document["address"]


def test_who_may_make_no_tokens_gets_the_plain_address(world: World, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["ann"])
    result = run("--no-open")
    assert (result.exit_code, result.stdout.strip(), opened) == (0, URL, [])
    assert "paste it into the page" in result.stderr


def test_where_there_is_no_console_it_says_so(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_API_URL", "https://jobs.example.org")
    elsewhere = run()
    monkeypatch.delenv("FABRIC_API_URL")
    (tmp_path / "state" / CONSOLE_FILE).unlink()
    nowhere = run()
    for result in (elsewhere, nowhere):
        assert result.exit_code == 4 and result.stderr.startswith("error[no_console]: ")
    assert "ssh -L" in elsewhere.stderr and "console.enabled" in nowhere.stderr


def test_the_last_port_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / CONSOLE_FILE
    assert last_port(file) == 0
    write_address(file, URL)
    assert last_port(file) == 4321
    file.write_text("{", encoding="utf-8")
    assert last_port(file) == 0


class Front:
    """The transport of a console whose address is `HOST`."""

    def __init__(self, console: ConsoleWorld) -> None:
        self._console = console

    def send(self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float, can_repeat: bool) -> Reply:
        return self._console.front.send(method, path, body, {"Host": HOST, **headers}, timeout_s)


def test_what_a_view_shows_is_printed_as_json(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path / "state"))
    write_address(tmp_path / "state" / CONSOLE_FILE, f"http://{HOST}")
    with a_console(tmp_path / "fabric") as made:
        monkeypatch.setenv("FABRIC_TOKEN", made.secrets["root"])
        monkeypatch.setattr("fabric.api_client.transport_to", lambda *_: Front(made))
        overview, nodes = run("--show", "overview"), run("--show", "nodes", "--where", "tier=hot", "--where", "limit=1")
        assert [tier["tier"] for tier in json.loads(overview.stdout)["tiers"]] == ["hot", "warm", "cold"]
        assert [node["node_id"] for node in json.loads(nodes.stdout)["nodes"]] == ["big-1"] and opened == []
        refused = run("--show", "nodes", "--where", "sort=colour")
        assert refused.exit_code == 2 and "unknown_sort" in refused.stderr
        assert "bad_where" in run("--show", "nodes", "--where", "hot").stderr
        assert run("--where", "tier=hot").exit_code == 2
