"""The doctor's checks: facts in, findings out; each one that is not ok names its cure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.config import FabricConfig
from fabric.doctor.check import Check, format_checks, report_json
from fabric.doctor.cluster import ClusterFacts, NodeAnswer, check_cluster
from fabric.doctor.look import look
from fabric.doctor.machine import Disk, Listener, MachineFacts, check_machine
from fabric.twin import TwinState
from fabric.types import Node
from pools.flavors import load_catalogue
from tests.fleet import BIG, CPUS, FLAVORS, node

GIB = 2**30
STATE = TwinState(4242, "127.0.0.1:1234", 0.0, "", 3)
WELL = MachineFacts(
    python=(3, 11, 7),
    ray="2.60.0",
    ray_problem="",
    ports={6379: "a Ray head", 8265: "the dashboard", 8000: "Ray Serve"},
    listeners={},
    shm_bytes=8 * GIB,
    store_bytes=2 * GIB,
    disks={"/tmp": Disk(50 * GIB, 100 * GIB)},
    state_dir="/home/me/.tierfabric",
    state_mode=0o700,
    is_state_writable=True,
    token="/home/me/.ray/auth_token",
    token_mode=0o600,
    devices=("8 x Xeon (cpu-vnni)",),
    problems=(),
    memory_bytes=16 * GIB,
    available_bytes=8 * GIB,
    num_files=65536,
    twin=None,
    is_twin_running=False,
    is_twin_file=False,
)


def findings(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks if check.state != "ok"}


def test_profiles_that_began_anew_are_told_of() -> None:
    [check] = [check for check in check_machine(replace(WELL, broken_profiles=("/s/profiles.db.corrupt-1",))) if check.name == "profiles"]
    assert check.state == "warn"
    assert "rm /s/profiles.db.corrupt-1" in check.cure


def test_a_machine_that_is_well_has_no_findings() -> None:
    assert findings(check_machine(WELL)) == {}
    fresh = replace(WELL, state_mode=None, token_mode=None, shm_bytes=None)
    assert findings(check_machine(fresh)) == {}


@pytest.mark.parametrize(
    ("change", "name", "state", "cure"),
    [
        ({"python": (3, 10, 4)}, "python", "fail", "Python 3.11"),
        ({"ray": None}, "ray", "fail", "pip install"),
        ({"ray": "2.49.0"}, "ray", "fail", "==2.60.0"),
        ({"ray_problem": "ImportError: grpc"}, "ray", "fail", "pip install"),
        ({"listeners": {8000: Listener("nginx (pid 7)", False)}}, "port 8000", "warn", "end nginx (pid 7)"),
        ({"shm_bytes": 64 * 2**20}, "/dev/shm", "warn", "--shm-size"),
        ({"disks": {"/tmp": Disk(GIB // 2, 100 * GIB)}}, "disk /tmp", "fail", "/tmp/ray"),
        ({"disks": {"/tmp": Disk(3 * GIB, 100 * GIB)}}, "disk /tmp", "warn", "95%"),
        ({"is_state_writable": False}, "state_dir", "fail", "FABRIC_STATE_DIR"),
        ({"state_mode": 0o755}, "state_dir", "warn", "chmod 700"),
        ({"token_mode": 0o644}, "auth token", "warn", "chmod 600"),
        ({"problems": ("nvml: driver mismatch",)}, "devices", "warn", "driver"),
        ({"available_bytes": GIB}, "memory", "warn", "end something"),
        ({"num_files": 1024}, "ulimit -n", "warn", "ulimit -n 65536"),
        ({"num_files": 256}, "ulimit -n", "fail", "ulimit -n 65536"),
        ({"twin": STATE, "is_twin_file": True}, "twin", "warn", "twin.json"),
        ({"is_twin_file": True}, "twin", "warn", "twin.json"),
    ],
)
def test_each_fault_of_a_machine_is_found_alone_and_names_its_cure(change: dict[str, Any], name: str, state: str, cure: str) -> None:
    checks = check_machine(replace(WELL, **change))
    assert findings(checks) == {name: state}
    assert cure in next(check.cure for check in checks if check.state != "ok")


def test_ports_that_the_fabric_itself_uses_are_in_order() -> None:
    ours = replace(WELL, listeners={8265: Listener("ray (pid 9)", True)}, twin=STATE, is_twin_running=True, is_twin_file=True)
    checks = check_machine(ours)
    assert findings(checks) == {}
    assert "127.0.0.1:1234" in checks[-1].detail


HERE = NodeAnswer("2.60.0", "3.11.7", "0.1.0", 0.0)
CLUSTER = ClusterFacts(
    address="head:6379",
    here=HERE,
    nodes=(BIG, CPUS),
    answers={BIG.node_id: HERE, CPUS.node_id: replace(HERE, python="3.11.9", skew_s=0.4)},
    actors={"pool-hot": "", "profiler": ""},
    silent=(),
    is_auth_enforced=True,
)


def judged(**change: Any) -> list[Check]:
    return check_cluster(replace(CLUSTER, **change), FLAVORS, ("hot", "warm", "cold"))


def test_a_cluster_that_is_well_has_no_findings() -> None:
    assert findings(judged()) == {}


def bare(name: str, tier: str, flavor: str) -> tuple[Node, ...]:
    return (BIG, replace(node(name, FLAVORS["cpu"]), tier=tier, flavor=flavor))


@pytest.mark.parametrize(
    ("change", "name", "state", "cure"),
    [
        ({"nodes": bare("n1", "", "")}, "labels", "fail", 'ray start --labels "$(fabric node labels)"'),
        ({"nodes": bare("n1", "cold", "abacus")}, "flavors", "fail", "add abacus under flavors:"),
        ({"nodes": bare("n1", "tepid", "cpu")}, "flavors", "fail", "add tepid under tiers:"),
        ({"nodes": bare("n1", "warm", "cpu")}, "flavors", "warn", "flavors: {cpu: {tier: warm}}"),
        ({"answers": {BIG.node_id: "ModuleNotFoundError: fabric"}}, "nodes", "fail", "pip install tierfabric"),
        ({"answers": {BIG.node_id: replace(HERE, ray="2.49.0")}}, "versions", "fail", "same three on every node"),
        ({"answers": {BIG.node_id: replace(HERE, python="3.12.1")}}, "versions", "fail", "same three on every node"),
        ({"answers": {BIG.node_id: replace(HERE, skew_s=2.0)}}, "clocks", "warn", "chrony"),
        ({"answers": {BIG.node_id: replace(HERE, skew_s=90.0)}}, "clocks", "fail", "chrony"),
        ({"actors": {"pool-hot": "died", "profiler": ""}}, "actors", "fail", "fabric up --address head:6379"),
        ({"silent": ("vm",)}, "agents", "warn", "agent-"),
        ({"is_auth_enforced": False}, "authentication", "warn", "RAY_AUTH_MODE=token"),
        ({"is_auth_enforced": None}, "authentication", "warn", "RAY_AUTH_MODE"),
    ],
)
def test_each_fault_of_a_cluster_is_found_alone_and_names_its_cure(change: dict[str, Any], name: str, state: str, cure: str) -> None:
    checks = judged(**change)
    assert findings(checks) == {name: state}
    assert cure in next(check.cure for check in checks if check.state != "ok")


def test_the_report_counts_and_shows_the_cure() -> None:
    checks = [Check("machine", "ray", "fail", "not installed", "pip install ray"), Check("cluster", "head", "ok", "fine")]
    assert {key: report_json(checks)[key] for key in ("ok", "warn", "fail")} == {"ok": 1, "warn": 0, "fail": 1}
    text = format_checks(checks)
    assert "cure: pip install ray" in text and text.endswith("1 ok, 0 to look at, 1 failing")


def test_this_machine_can_be_looked_at_without_starting_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.doctor.look._import_problem", lambda: "")
    config = FabricConfig(state_dir=tmp_path / "not" / "there")
    facts = look(config, load_catalogue(), [])
    assert facts.state_mode is None and facts.is_state_writable and facts.memory_bytes > 0 and facts.devices
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("mode", "status"), [(0o700, 0), (0o500, 1)])
def test_doctor_ends_with_1_where_something_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, status: int) -> None:
    monkeypatch.setattr("fabric.doctor.look.look", lambda *_args: replace(WELL, is_state_writable=mode == 0o700))
    monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path))
    for name in ("FABRIC_ADDRESS", "RAY_ADDRESS", "FABRIC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(cli, ["doctor", "-o", "json"])
    assert result.exit_code == status
    assert set(json.loads(result.stdout)) == {"checks", "ok", "warn", "fail"}


@pytest.mark.parametrize(
    ("silent_s", "one", "state", "says"),
    [
        (0.5, {"state": "shipping", "lag_s": 0.7, "error": None}, "ok", "in s3://lab, 1.2 s behind"),
        (0.5, {"state": "copying", "lag_s": None, "error": None}, "warn", "no whole copy in s3://lab yet"),
        (0.5, {"state": "superseded", "lag_s": 9.0, "error": "shipped by b"}, "fail", "journal in s3://lab: superseded: shipped by b"),
        (60.0, {"state": "shipping", "lag_s": 0.7, "error": None}, "warn", "nothing is heard of it in s3://lab"),
        (None, {"state": "shipping", "lag_s": 0.7, "error": None}, "warn", "nothing is heard of it in s3://lab"),
    ],
)
def test_the_copy_of_the_journal_has_a_row(silent_s: float | None, one: dict[str, Any], state: str, says: str) -> None:
    shipping = {"storage_url": "s3://lab", "silent_s": silent_s, "databases": {"journal": one}}
    (row,) = [check for check in judged(shipping=shipping) if check.name == "journal's copy"]
    assert (row.state, bool(row.cure)) == (state, state != "ok") and says in row.detail
    assert not [check for check in judged() if check.name == "journal's copy"], "none where nothing is shipped"
