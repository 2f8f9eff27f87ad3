"""How Ray starts on a machine: closed, with its token, and a head that remembers."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.errors import RuntimeFault
from fabric.machines.agent import described
from fabric.machines.command import DEFAULT_ENV, ray_environment, ray_start, run_script
from fabric.machines.node_files import NodeFiles
from fabric.machines.spec import NodeSpec, Ports
from tests.labs import HEAD, HOT, node_spec

HOME = "/home/ann"
WORKER = node_spec()
HEAD_NODE = node_spec(
    kind="head",
    address=HEAD,
    instance_id=f"{HEAD}-head",
    node_type="head",
    autoscaling_config="~/ray_bootstrap_config.yaml",
    fabric_config="~/.tierfabric/fabric.yaml",
)


# -- the command -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [WORKER, HEAD_NODE], ids=["worker", "head"])
def test_every_node_runs_in_the_foreground_with_all_its_ports_fixed(spec: NodeSpec) -> None:
    words = ray_start(spec, HOME)
    assert words[:3] == ["/home/ann/.tierfabric/venv/bin/ray", "start", "--block"]
    assert len({word.partition("=")[0] for word in words}) == len(words)
    ports = {int(word.partition("=")[2]) for word in words if "-port=" in word and "worker-port" not in word}
    assert ports == set(spec.ports.of(spec.kind)) - ({spec.ports.gcs} if spec.kind == "worker" else set())
    assert {"--min-worker-port=10002", "--max-worker-port=19999", f"--node-ip-address={spec.address}"} <= set(words)
    assert "--labels=flavor=a100-80g,tier=hot" in words and {"--num-cpus=8", "--num-gpus=1"} <= set(words)


def test_a_worker_joins_its_head() -> None:
    words = ray_start(node_spec(ports=Ports(gcs=7000)), HOME)
    assert f"--address={HEAD}:7000" in words and "--head" not in words
    assert not [word for word in words if "autoscaling" in word or word.startswith("--dashboard-host")]


def test_a_heads_dashboard_listens_to_its_own_machine_only() -> None:
    words = ray_start(HEAD_NODE, HOME)
    assert {"--head", "--port=6379", "--dashboard-host=127.0.0.1", "--dashboard-port=8265", "--ray-client-server-port=10001"} <= set(words)
    assert "--autoscaling-config=/home/ann/ray_bootstrap_config.yaml" in words
    assert not [word for word in words if word.startswith("--address")]


def test_a_path_that_is_not_below_home_stays_as_it_is() -> None:
    assert ray_start(node_spec(environment="/opt/env"), HOME)[0] == "/opt/env/bin/ray"


def test_resources_are_given_by_the_flags_that_ray_has_for_them() -> None:
    amounts = {"CPU": 4, "memory": 2e9, "object_store_memory": 1e9, "tpu": 2, "accelerator_type:A100": 1}
    words = ray_start(node_spec(resources=amounts, labels={}), HOME)
    assert {"--num-cpus=4", "--memory=2000000000", "--object-store-memory=1000000000"} <= set(words)
    (custom,) = [word.partition("=")[2] for word in words if word.startswith("--resources=")]
    assert json.loads(custom) == {"tpu": 2, "accelerator_type:A100": 1}
    assert not [word for word in words if word.startswith(("--num-gpus", "--labels"))]


# -- the environment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [WORKER, HEAD_NODE], ids=["worker", "head"])
def test_every_node_asks_for_the_clusters_token(spec: NodeSpec) -> None:
    env = ray_environment(spec, HOME)
    assert env["RAY_AUTH_MODE"] == "token" and env["RAY_AUTH_TOKEN_PATH"] == "/home/ann/.tierfabric/node/auth_token"
    assert env["RAY_CLOUD_INSTANCE_ID"] == spec.instance_id and env["RAY_NODE_TYPE_NAME"] == spec.node_type
    assert env["RAY_USAGE_STATS_ENABLED"] == "0" and env["PATH"].startswith("/home/ann/.tierfabric/venv/bin:")
    assert not [name for name in env if "TLS" in name]


def test_only_the_head_keeps_a_memory_and_the_fabrics_settings() -> None:
    head, worker = ray_environment(HEAD_NODE, HOME), ray_environment(WORKER, HOME)
    assert (head["RAY_gcs_storage"], head["RAY_gcs_storage_path"]) == ("rocksdb", "/home/ann/.tierfabric/gcs/lab")
    assert head["FABRIC_CONFIG"] == "/home/ann/.tierfabric/fabric.yaml"
    assert not {"RAY_gcs_storage", "RAY_gcs_storage_path", "FABRIC_CONFIG"} & set(worker)


def test_what_the_user_sets_goes_before_every_default() -> None:
    env = {name: f"mine-{name}" for name in DEFAULT_ENV} | {"RAY_gcs_storage": "memory", "MORE": "1"}
    given = ray_environment(node_spec(kind="head", env=env), HOME)
    assert {name: given[name] for name in env} == env


def test_a_node_is_missed_within_eight_seconds() -> None:
    period, timeout, times = (int(DEFAULT_ENV[f"RAY_health_check_{name}"]) for name in ("period_ms", "timeout_ms", "failure_threshold"))
    assert times * (period + timeout) <= 8000


def test_tls_names_the_files_that_were_shipped() -> None:
    env = ray_environment(node_spec(is_tls=True), HOME)
    assert env["RAY_USE_TLS"] == "1"
    there = {name: env[f"RAY_TLS_{name}"] for name in ("SERVER_CERT", "SERVER_KEY", "CA_CERT")}
    tls = "/home/ann/.tierfabric/node/tls"
    assert there == {"SERVER_CERT": f"{tls}/cert.pem", "SERVER_KEY": f"{tls}/key.pem", "CA_CERT": f"{tls}/ca.pem"}


# -- the script ------------------------------------------------------------------------------------------------------------


def test_the_script_runs_a_command_with_address_and_token_and_is_nobody_elses(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path / ".tierfabric" / "node")
    files.prepare()
    odd = "it's $HOME; `x`"
    files.write_run(run_script(node_spec(is_tls=True, env={"FABRIC_NAME": odd, "SECRET": "no"}), str(tmp_path)))
    script = tmp_path / ".tierfabric" / "run"
    assert stat.S_IMODE(script.stat().st_mode) == 0o700
    names = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS", "FABRIC_NAME", "SECRET")
    code = f"import json, os, sys; print(json.dumps([[os.environ.get(n) for n in {names!r}], sys.argv[1:]]))"
    done = subprocess.run([str(script), sys.executable, "-c", code, "a b", "$c"], env={}, capture_output=True, text=True, check=True)
    values, words = json.loads(done.stdout)
    assert dict(zip(names, values, strict=True)) == {
        "RAY_ADDRESS": f"{HEAD}:6379",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{tmp_path}/.tierfabric/node/auth_token",
        "RAY_USE_TLS": "1",
        "FABRIC_NAME": odd,
        "SECRET": None,
    }
    assert words == ["a b", "$c"]
    failed = subprocess.run([str(script), "sh", "-c", "exit 7"], env={}, check=False)
    assert failed.returncode == 7


# -- what a machine is, where its file does not say ------------------------------------------------------------------------


def an_environment(root: Path, script: str) -> str:
    program = root / "bin" / "fabric"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(root)


def test_a_machine_whose_flavor_is_named_is_not_asked_what_it_is(tmp_path: Path) -> None:
    spec = node_spec(environment=an_environment(tmp_path, "exit 1"))
    assert described(spec) is spec


def test_a_machine_whose_flavor_is_not_named_tells_it_itself_and_the_file_goes_before(tmp_path: Path) -> None:
    found = json.dumps({"labels": {"tier": "warm", "flavor": "t4"}, "resources": {"CPU": 16, "GPU": 2}})
    environment = an_environment(tmp_path, f'test "$*" = "node labels -o json" && echo {shlex.quote(found)}')
    spec = described(node_spec(environment=environment, labels={"tier": "hot", "zone": "a"}, resources={"CPU": 8}))
    assert spec.labels == {"tier": "hot", "zone": "a", "flavor": "t4"} and spec.resources == {"CPU": 8, "GPU": 2}
    assert spec.address == HOT


def test_a_machine_that_cannot_tell_what_it_is_says_why(tmp_path: Path) -> None:
    environment = an_environment(tmp_path, "echo 'error[bad_config]: no such tier' >&2; exit 2")
    with pytest.raises(RuntimeFault) as error:
        described(node_spec(environment=environment, labels={}))
    assert error.value.code == "not_described" and "no such tier" in error.value.context["log"]
