"""What a launch tells, how it tags, and which doors a doctor tries."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fabric.cluster import launch
from fabric.cluster.doctor import _secrets
from fabric.cluster.doors import doors
from fabric.cluster.launch import worker_tags
from fabric.cluster.progress import Progress
from fabric.doctor.check import Check
from fabric.errors import FabricError, RuntimeFault
from fabric.machines import local, ship
from fabric.machines.bring_up import _told
from fabric.machines.firewall import UNGUARDED
from fabric.machines.plan import read_cluster
from tests.labs import HEAD, cluster_file

# -- tags ------------------------------------------------------------------------------------------------------------------


def rays_tags() -> dict[str, str]:
    """The constants of Ray's own module, without importing Ray."""
    spec = find_spec("ray")
    assert spec is not None and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "autoscaler" / "tags.py").read_text(encoding="utf-8")
    return {
        node.targets[0].id: node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant)
    }


def test_a_worker_is_tagged_in_rays_own_words() -> None:
    tags = rays_tags()
    assert (
        tags["TAG_RAY_NODE_KIND"],
        tags["TAG_RAY_USER_NODE_TYPE"],
        tags["TAG_RAY_NODE_STATUS"],
        tags["TAG_RAY_NODE_NAME"],
    ) == (launch._TAG_KIND, launch._TAG_TYPE, launch._TAG_STATUS, launch._TAG_NAME)
    assert worker_tags("lab", "hot") == {
        tags["TAG_RAY_NODE_KIND"]: tags["NODE_KIND_WORKER"],
        tags["TAG_RAY_USER_NODE_TYPE"]: "hot",
        tags["TAG_RAY_NODE_STATUS"]: tags["STATUS_UP_TO_DATE"],
        tags["TAG_RAY_NODE_NAME"]: "ray-lab-worker",
    }


# -- progress --------------------------------------------------------------------------------------------------------------


def progress(lines: list[str]) -> Progress:
    return Progress({HEAD: "head", "a-long-host": "hot"}, lines.append)


def test_each_line_names_the_machine_its_kind_the_step_and_how_long_it_took() -> None:
    lines: list[str] = []
    told = progress(lines)
    told.done(HEAD, "looked at")
    told.line("a-long-host", "nothing runs")
    assert re.fullmatch(r"10\.0\.0\.1     head  looked at {14}[\d.]+ (µs|ms|s)", lines[0]), lines[0]
    assert lines[1] == "a-long-host  hot   nothing runs"
    assert re.fullmatch(r"[\d.]+ (µs|ms|s)", told.total())


def test_a_failure_is_told_with_its_code_its_own_words_and_its_cure() -> None:
    lines: list[str] = []
    progress(lines).failed(HEAD, RuntimeFault("Ray ended", code="ray_failed", hint="make room", log="one\ntwo"))
    assert [line.removeprefix("10.0.0.1     head  ") for line in lines] == [
        "FAILED  Ray ended [ray_failed]",
        "        | one",
        "        | two",
        "        cure: make room",
    ]
    lines.clear()
    progress(lines).failed(HEAD, RuntimeFault("broken"))
    assert len(lines) == 1


# -- doors -----------------------------------------------------------------------------------------------------------------


def test_every_port_that_a_node_opens_is_a_door_and_stands_once() -> None:
    cluster = read_cluster(cluster_file({"provider/ports": {"metrics": 7001, "gcs": 7000}}))
    head, worker = doors(cluster, is_head=True), doors(cluster, is_head=False)
    assert {door.port for door in head} == set(cluster.ports().of("head")) | set(UNGUARDED)
    assert {door.port for door in worker} >= set(cluster.ports().of("worker"))
    for listed in (head, worker):
        assert len({door.port for door in listed}) == len(listed) and all(door.what for door in listed)
        assert all(re.fullmatch(r"/ray\.rpc\.\w+/\w+" if door.how == "grpc" else r"/\S*", door.path) for door in listed)
    assert {7000, 7001} <= {door.port for door in head} and not {6379, 6385} & {door.port for door in head}
    assert set(worker) < set(head)


# -- what an agent answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [("launch_running", 3), ("other_cluster", 3), ("settings_changed", 3), ("ray_failed", 1), ("start_timeout", 1)]
)
def test_an_error_of_a_machine_is_raised_as_it_was_meant(code: str, status: int) -> None:
    error = _told({"error": code, "message": "its words", "hint": "mend it", "log": "x", "nested": {"no": 1}})
    assert isinstance(error, FabricError) and (error.code, error.exit_status) == (code, status)
    assert (error.message, error.hint, error.context) == ("its words", "mend it", {"log": "x"})


# -- the secrets of a cluster, as a doctor sees them -----------------------------------------------------------------------


def token_check(changes: dict[str, Any] | None = None) -> Check:
    (check,) = _secrets(read_cluster(cluster_file(changes)))
    return check


def test_a_token_is_looked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_check().state == "ok" and "made by `fabric up`" in token_check().detail
    token = ship.make_token(local.token_path("lab"))
    assert token_check().state == "ok" and "0600" in token_check().detail
    token.chmod(0o644)
    assert token_check().state == "fail" and f"chmod 600 {token}" in token_check().cure
    is_off = token_check({"provider/env": {"RAY_AUTH_MODE": "disabled"}})
    assert is_off.state == "fail" and "RAY_AUTH_MODE" in is_off.cure


def test_certificates_that_a_file_names_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tls = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key", "ca")}
    checks = list(_secrets(read_cluster(cluster_file({"provider/tls": tls}))))
    assert [(check.name, check.state) for check in checks] == [
        ("token", "ok"), ("certificate", "fail"), ("CA", "fail"), ("private key", "fail"),
    ]  # fmt: skip
