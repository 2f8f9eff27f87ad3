"""The command line: what it imports, how it fails, what it prints of this machine and its settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fabric.cli import node_describe, session
from fabric.cli.lazy import LazyGroup
from fabric.cli.main import cli
from fabric.cli.node_drain import seconds
from fabric.config import FabricConfig, load_config
from fabric.errors import FabricError, NoFitError, UnknownNameError, UserError
from fabric.node_orders import pick
from fabric.status_form import fabric_json, format_status, pool_json
from fabric.tiers import catalogue_tiers, format_tiers, tiers_json
from fabric.types import Device, Lease, Node, NodeUsage, PoolSnapshot
from pools.flavors import load_catalogue
from tests.fleet import BIG, COLD, CPUS, FLAVORS, HOT, capacities_of, node

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
HEAVY = ("ray", "pydantic", "rich", "sqlalchemy", "yaml", "psutil")


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path / "state"))
    for name in ("FABRIC_CONFIG", "FABRIC_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def run(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(cli, list(args), **options)


def commands(group: click.Command = cli, path: str = "fabric") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(group, LazyGroup):
        yield path, group
        return
    for name in group.table:
        command = group.get_command(click.Context(group), name)
        assert command is not None and command.name == name
        yield from commands(command, f"{path} {name}")


@pytest.mark.parametrize("args", [["--help"], ["node", "--help"], ["status", "--help"], ["up", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\nfrom fabric.cli.main import main\ntry:\n    main()\nfinally:\n"
        f"    print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "HEAVY []")


def test_every_command_has_help_that_names_its_options() -> None:
    for path, _ in commands():
        result = run(*path.split()[1:], "--help")
        assert result.exit_code == 0 and "--debug" in result.output and "--config" in result.output, path


def test_every_command_has_a_heading_in_the_docs() -> None:
    headings = {line.strip("#` ") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("## `")}
    assert headings == {path for path, _ in commands()}


def test_every_read_has_json() -> None:
    reads = {path for path, command in commands() if any("-o" in param.opts for param in command.params)}
    expected = {"status", "tiers", "explain", "profile", "doctor", "config show", "node labels", "node resources", "simulate", "replay"}
    expected |= {"submit", "queue", "cancel", "raise", "plan", "usage", "efficiency", "token create", "token list", "token revoke"}
    expected |= {"console"}
    expected |= {"policy apply", "policy show", "policy history", "policy rollback", "policy what-if"}
    expected |= {"model list", "model show"}
    expected |= {f"model {verb}" for verb in ("register", "versions", "search", "alias", "fetch", "deprecate", "import", "export")}
    expected |= {f"rollout {verb}" for verb in ("start", "status", "pause", "resume", "promote", "abort", "rollback")}
    expected |= {f"experiment {verb}" for verb in ("start", "status", "stop")}
    expected |= {"profiles export", "profiles import", "profiles forget"}
    expected |= {"metrics list", "metrics export-dashboard"}
    assert reads == {f"fabric {name}" for name in expected}


@pytest.mark.parametrize(
    ("args", "code", "hint"),
    [
        (["stats"], "unknown_command", "did you mean status?"),
        (["node", "cordn", "x"], "unknown_command", "did you mean cordon?"),
        (["status", "--adress", "x"], "usage", "`fabric status --help`"),
        (["status", "-o", "yaml"], "usage", "`fabric status --help`"),
        (["node", "cordon"], "usage", "`fabric node cordon --help`"),
        (["--config", "nope.yaml", "config", "show"], "config_not_found", None),
        (["config", "show", "--config", "nope.yaml"], "config_not_found", None),
        (["node", "labels", "--flavor", "a100-80gb"], "unknown_flavor", "did you mean a100-80g?"),
        (["node", "drain", "abcd"], "not_confirmed", "--yes drains without asking"),
        (["node", "drain", "abcd", "--deadline", "soon"], "bad_duration", "300s, 5m or 1h"),
    ],
)
def test_what_the_user_got_wrong_is_said_in_one_shape_and_ends_with_2(args: list[str], code: str, hint: str | None) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    first, *rest = result.stderr.splitlines()
    assert first.startswith(f"error[{code}]: ")
    assert rest == ([] if hint is None else [f"hint: {hint}"])


def test_a_group_alone_shows_its_help() -> None:
    assert (run().exit_code, run("node").exit_code) == (0, 0)
    assert "Commands:" in run("node").output


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (NoFitError("too big", hint="ask for less"), 3, "error[no_fit]: too big\nhint: ask for less\n"),
        (FabricError("it broke"), 1, "error[fabric_error]: it broke\n"),
        (OSError(28, "No space left on device"), 1, "error[os]: [Errno 28] No space left on device\n"),
        (KeyError("x"), 1, "error[bug]: KeyError: 'x'\nhint: --debug shows the traceback; please report it\n"),
        (KeyboardInterrupt(), 130, "error[interrupted]: stopped by you\n"),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, told: str
) -> None:
    def fail(*_args: Any, **_flags: Any) -> None:
        raise error

    monkeypatch.setattr("fabric.config.load_config", fail)
    result = run("config", "show")
    assert (result.exit_code, result.stderr.lstrip("\n")) == (status, told)
    if status != 130:
        assert "Traceback (most recent call last)" in run("config", "show", "--debug").stderr
        assert "Traceback (most recent call last)" in run("--debug", "config", "show").stderr


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys\nfrom fabric.cli.main import main\nsys.argv = ['fabric', 'tiers', '--all', '-o', 'json']\nmain()"
    command = f'{sys.executable} -c "$0" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command, code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_without_a_fabric_down_and_drain_say_so() -> None:
    assert run("down").output.startswith("no twin runs here")
    result = run("down", "-o", "json")
    assert result.exit_code == 2


def test_config_show_names_the_origin_of_every_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fabric.yaml").write_text("routing: {refresh_s: 2}\njournal_url: postgresql://me:secret@db/fabric\n")
    monkeypatch.setenv("FABRIC_ROUTING__WAITING_USD_PER_H", "25")
    result = run("config", "show", "-o", "json")
    settings = {row["key"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)["settings"]}
    assert settings["routing.refresh_s"] == (2.0, "fabric.yaml")
    assert settings["routing.waiting_usd_per_h"] == (25.0, "FABRIC_ROUTING__WAITING_USD_PER_H")
    assert settings["routing.lost_flavor_grace_s"] == (60.0, "default")
    assert settings["journal_url"] == ("postgresql://me:***@db/fabric", "fabric.yaml")
    assert "FABRIC_ROUTING__WAITING_USD_PER_H" in run("config", "show").stdout


def test_flags_win_and_an_absent_flag_says_nothing() -> None:
    from fabric.cli.lazy import Settings

    loaded = session.load(Settings(), name="lab", dashboard__enabled=None)
    assert (loaded.config.name, loaded.origins["name"]) == ("lab", "flag")
    assert (loaded.config.dashboard.enabled, loaded.origins["dashboard.enabled"]) == (True, "default")


@pytest.fixture
def machine(tmp_path: Path) -> None:
    """A machine with a card that only fabric.yaml knows of."""
    (tmp_path / "fabric.yaml").write_text("devices:\n  - {kind: fpga, name: Alveo U250, count: 2, memory_gib: 64}\n")


def test_node_labels_stand_in_a_command_line(machine: None) -> None:
    assert run("node", "labels").stdout == "tier=warm,flavor=alveo-u250\n"
    assert run("node", "resources").stdout == '{"FPGA": 2}\n'
    asked = run("node", "labels", "--flavor", "a100-80g")
    assert asked.stdout == "tier=hot,flavor=a100-80g\n" and "hint: no a100-80g was found" in asked.stderr


def test_node_labels_as_json_tell_what_was_found(machine: None) -> None:
    document = json.loads(run("node", "labels", "-o", "json").stdout)
    assert set(document) == {"tier", "flavor", "labels", "resources", "reason", "hints", "devices", "problems"}
    assert document["labels"] == {"tier": "warm", "flavor": "alveo-u250"}
    assert next(device for device in document["devices"] if device["kind"] == "fpga")["count"] == 2


def test_declared_devices_are_bytes_inside(machine: None) -> None:
    declared = node_describe.declared_devices(load_config().config)
    assert declared == [Device("fpga", "Alveo U250", 2, memory_bytes=64 * 2**30)]


@pytest.mark.parametrize(("span", "expected"), [("300s", 300.0), ("5m", 300.0), ("1h", 3600.0), ("90", 90.0), (" 2 M ", 120.0)])
def test_a_length_of_time_has_a_unit_or_is_seconds(span: str, expected: float) -> None:
    assert seconds(span) == expected


TWO = [node("aaaa1111", HOT, host="one"), node("aaaa2222", HOT, host="two"), node("bbbb3333", COLD, host="two")]


@pytest.mark.parametrize(("name", "found"), [("aaaa1111", 0), ("aaaa2", 1), ("BBBB", 2), ("one", 0)])
def test_a_node_is_named_by_id_prefix_or_host(name: str, found: int) -> None:
    assert pick(TWO, name) is TWO[found]


def test_a_node_that_nobody_knows_or_several_answer_to_is_an_error() -> None:
    with pytest.raises(UnknownNameError) as unknown:
        pick(TWO, "aaaa1112")
    assert (unknown.value.code, unknown.value.hint) == ("unknown_node", "did you mean aaaa1111?")
    with pytest.raises(UserError, match="names 2 nodes") as several:
        pick(TWO, "two")
    assert several.value.hint == "say which: aaaa2222 (hot/big), bbbb3333 (cold/cpu)"
    with pytest.raises(UnknownNameError):
        pick(TWO, "aaa")


USAGE = NodeUsage(cpu_frac=0.25, memory_used_bytes=2**30, memory_total_bytes=4 * 2**30)
TWIN = Node("cccc4444", "lap", "hot", "big", {"CPU": 1.0, "GPU": 2.0}, {"GPU": 0.5}, slowdown=2.0, usage=USAGE)


def status_of(*nodes: Node, leases: tuple[Lease, ...] = ()) -> dict[str, Any]:
    tiers = [
        pool_json(PoolSnapshot(tier, 1, tuple(n for n in nodes if n.tier == tier), leases), FLAVORS) for tier in ("hot", "warm", "cold")
    ]
    return fabric_json("lab", "head:6379", tiers, ["dddd5555eeee"])


def test_status_counts_what_idles_in_money() -> None:
    document = status_of(TWIN, CPUS, leases=(Lease("lease-1", "job-1", "cccc4444", {"GPU": 1.0}),))
    twin = document["tiers"][0]["nodes"][0]
    assert twin["usd_per_h"] == pytest.approx(7.2) and twin["idle_usd_per_h"] == pytest.approx(7.2 * 0.75)
    assert (twin["twin"], twin["slowdown"], twin["accelerator"], twin["leases"]) == (True, 2.0, "GPU", ["lease-1"])
    assert document["totals"] == {
        "nodes": 2,
        "ready": 2,
        "twins": 1,
        "idle_usd_per_h": pytest.approx(7.2 * 0.75 + 4 * 0.036),
        "nodes_without_price": 0,
    }


def test_status_for_people_marks_twins_and_names_what_is_not_used() -> None:
    text = format_status(status_of(TWIN, CPUS))
    assert "big twin ×2" in text and "0.5/2" in text and "25 %" in text and "1/4 GiB" in text
    assert "dddd5555" in text and "fabric node labels" in text
    assert "no node has joined a tier" in format_status(status_of())


def test_a_node_of_an_unknown_flavor_has_no_price() -> None:
    stranger = Node("ffff6666", "x", "cold", "abacus", {"CPU": 4.0})
    document = status_of(stranger)
    assert document["tiers"][2]["nodes"][0]["idle_usd_per_h"] is None
    assert (document["totals"]["idle_usd_per_h"], document["totals"]["nodes_without_price"]) == (None, 1)
    assert "1 without a known price" in format_status(document)


def test_tiers_list_what_is_there_and_with_all_what_could_be() -> None:
    config = FabricConfig()
    present = capacities_of(BIG, CPUS)
    found = tiers_json(config, FLAVORS, present, is_all=False)
    assert [[f["flavor"] for f in tier["flavors"]] for tier in found["tiers"]] == [["big"], [], ["cpu"]]
    big = found["tiers"][0]["flavors"][0]
    assert (big["nodes"], big["units"], big["slots"], big["usd_per_h"], big["twin"]) == (1, 1.0, 1, 3.6, False)
    assert "without a node: warm" in format_tiers(found)
    everything = tiers_json(config, FLAVORS, present, is_all=True)
    assert [f["nodes"] for f in everything["tiers"][1]["flavors"]] == [0, 0]


def test_the_whole_catalogue_needs_no_fabric_and_names_its_sources() -> None:
    document = json.loads(run("tiers", "--all", "-o", "json").stdout)
    flavors = [flavor for tier in document["tiers"] for flavor in tier["flavors"]]
    assert {flavor["flavor"] for flavor in flavors} == set(load_catalogue())
    assert all(flavor["sources"] and flavor["nodes"] is None for flavor in flavors)
    assert document == catalogue_tiers(load_config().config)
