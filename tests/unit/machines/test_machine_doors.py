"""Ports that answer without asking who is there are shut for all but friends; who keeps a node running; where that is written."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import stat
import sys
from pathlib import Path

import pytest

from fabric.errors import ConfigError, RejectedError
from fabric.machines import firewall, local, supervisor
from fabric.machines.node_files import NodeFiles
from tests.labs import COLD, HEAD, HOT, node_spec

# -- the table of rules ----------------------------------------------------------------------------------------------------


def test_only_friends_and_the_machine_itself_reach_the_ports() -> None:
    text = firewall.rules([6385, 44217], [HOT, HEAD, HEAD, "192.168.0.0/24", "fd00::/8"])
    lines = [line.strip() for line in text.splitlines()]
    assert f"tcp dport {{ 6385, 44217 }} ip saddr {{ {HEAD}, {HOT}, 127.0.0.0/8, 192.168.0.0/24 }} accept" in lines
    assert "tcp dport { 6385, 44217 } ip6 saddr { ::1, fd00::/8 } accept" in lines
    chain = [line for line in lines if line.startswith("tcp")]
    assert len(chain) == 3 and chain[-1] == "tcp dport { 6385, 44217 } drop"
    assert "policy accept" in text  # whatever else the machine does is not our business


def test_the_table_replaces_itself_and_touches_no_other() -> None:
    lines = firewall.rules([6385], []).splitlines()
    assert lines[:3] == ["table inet tierfabric", "delete table inet tierfabric", "table inet tierfabric {"]
    assert not [line for line in lines if "table" in line and "tierfabric" not in line] and "flush" not in "".join(lines)
    assert "ip6 saddr { ::1 }" in firewall.rules([6385], [HEAD]) and "ip saddr { 127.0.0.0/8 }" in firewall.rules([6385], [])


def test_an_order_of_friends_makes_no_other_table() -> None:
    assert firewall.rules([2, 1], [HOT, COLD]) == firewall.rules([1, 2], [COLD, HOT, COLD])


# -- the unit of systemd ---------------------------------------------------------------------------------------------------


def test_the_unit_starts_the_watchdog_again_whenever_it_ends() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(supervisor.unit())
    service = unit["Service"]
    assert shlex.split(service["ExecStart"]) == [sys.executable, "-m", "fabric.machines.watchdog"]
    assert service["Restart"] == "always" and service["KillMode"] == "mixed" and int(service["LimitNOFILE"]) >= 4096
    assert "network-online.target" in unit["Unit"]["After"]


@pytest.mark.parametrize(("uid", "target"), [(0, "multi-user.target"), (1000, "default.target")])
def test_a_users_unit_is_wanted_by_a_target_that_a_user_has(monkeypatch: pytest.MonkeyPatch, uid: int, target: str) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert re.search(rf"^WantedBy={target}$", supervisor.unit(), re.MULTILINE)


# -- the files of a node ---------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    made = NodeFiles(tmp_path / ".tierfabric" / "node")
    made.prepare()
    return made


def test_a_machine_on_which_nothing_was_started_says_so(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / "none")
    assert files.read_status() is None and files.watchdog_pid() is None and files.tail() == "" and not files.root.exists()
    with pytest.raises(OSError):
        files.read_spec()


def test_what_is_written_is_read_again_and_is_nobody_elses(files: NodeFiles) -> None:
    spec = node_spec(env={"SECRET": "x"})
    files.write_spec(spec)
    files.write_status("down", spec, 3, detail="its last words")
    status = files.read_status()
    assert files.read_spec() == spec and status is not None
    assert (status.state, status.cluster, status.instance_id, status.restarts, status.detail) == (
        "down", "lab", spec.instance_id, 3, "its last words",
    )  # fmt: skip
    assert status.digest == spec.digest() and status.since_s > 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in (files.spec, files.status)} == {0o600}
    assert stat.S_IMODE(files.root.stat().st_mode) == 0o700 and not list(files.root.glob("*.new"))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"state": "up"}', '{"state": "up", "unknown": 1}'])
def test_a_status_that_cannot_be_read_is_none(files: NodeFiles, text: str) -> None:
    files.status.write_text(text)
    assert files.read_status() is None
    files.spec.write_text(text)
    with pytest.raises(ConfigError):
        files.read_spec()


def test_the_last_lines_of_rays_log_skip_what_is_empty(files: NodeFiles) -> None:
    files.ray_log.write_bytes(b"\xff first\n" + b"".join(b"line %d\n\n" % i for i in range(20)))
    assert files.tail(2) == "line 18\nline 19" and len(files.tail().splitlines()) == 12


def test_a_watchdog_is_alive_while_it_holds_its_lock(files: NodeFiles) -> None:
    assert files.watchdog_pid() is None
    held = files.hold()
    try:
        assert files.watchdog_pid() == os.getpid()
        with pytest.raises(OSError):
            files.hold()
        assert NodeFiles(files.root).watchdog_pid() == os.getpid()
    finally:
        os.close(held)
    assert files.watchdog_pid() is None  # its number still stands there
    os.close(files.hold())


def test_a_machine_is_launched_by_one_at_a_time(files: NodeFiles) -> None:
    with files.launching(), pytest.raises(RejectedError) as error, NodeFiles(files.root).launching():
        pass
    assert error.value.code == "launch_running" and error.value.retryable
    with files.launching():
        pass


def test_a_cluster_is_launched_by_one_at_a_time_and_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with local.launching("lab"), local.launching("other"), pytest.raises(RejectedError) as error, local.launching("lab"):
        pass
    assert error.value.code == "launch_running" and "lab" in error.value.message and error.value.exit_status == 3
    with local.launching("lab"):
        pass
    assert local.token_path("lab") == tmp_path / ".tierfabric/clusters/lab/auth_token"
    assert stat.S_IMODE(local.folder("lab").stat().st_mode) == 0o700
