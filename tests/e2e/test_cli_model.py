"""`fabric model …` as a user types it, on a twin: a file served, judged over both protocols, shown, woken, redeployed and ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.e2e.test_cli_twin import Shell


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("model"))
    rest, grpc = free_ports()
    made.env |= {"FABRIC_SERVING__PORT": str(rest), "FABRIC_SERVING__GRPC_PORT": str(grpc), "FABRIC_DASHBOARD__ENABLED": "false"}
    made("up", "--no-dashboard")
    yield made
    made("down")


@pytest.fixture(scope="module")
def model(shell: Shell) -> Path:
    file = shell.cwd / "double.onnx"
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 2))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


def ask(shell: Shell, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    url = f"http://127.0.0.1:{shell.env['FABRIC_SERVING__PORT']}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}


def until(holds: Any, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.25)


def test_a_file_is_served_and_shown(shell: Shell, model: Path) -> None:
    assert "no models are served" in shell("model", "list").stdout
    done = shell("model", "deploy", str(model), "--name", "double", "--min", "0", "--max", "2", "--idle", "3")
    assert done.stdout.strip().endswith("/v2/models/double/infer")
    assert "1 of 1 replicas run" in done.stderr
    assert ask(shell, "/v2/models/double/infer", INFER)[1]["outputs"][0]["data"] == [2.0, 4.0]
    (listed,) = shell.json("model", "list")["models"]
    assert (listed["name"], listed["default"], listed["versions"][0]["platform"]) == ("double", "1", "onnx_onnxv1")
    shown = shell("model", "show", "double").stdout
    assert "version 1 answers" in shown and "x: FP32[?, 2]" in shown and "Cheapest" in shown


def test_the_whole_stack_keeps_to_the_protocol(shell: Shell, model: Path) -> None:
    ports = [shell.env[f"FABRIC_SERVING__{name}PORT"] for name in ("", "GRPC_")]
    kit = [sys.executable, "-m", "serve_apps.oip.conformance", f"http://127.0.0.1:{ports[0]}", "--grpc", f"127.0.0.1:{ports[1]}"]
    done = subprocess.run([*kit, "--model", "double"], capture_output=True, text=True, timeout=120, env=shell.env)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_sleeps_unasked_and_a_request_wakes_it(shell: Shell, model: Path) -> None:
    until(lambda: not shell.json("model", "show", "double")["versions"][0]["replicas"], within_s=60)
    assert ask(shell, "/v2/models/double/infer", INFER)[1]["outputs"][0]["data"] == [2.0, 4.0]
    assert "idle" in json.dumps(shell.json("model", "show", "double")["versions"][0]["decisions"]).lower()


def test_the_next_version_follows_and_a_file_that_is_no_model_changes_nothing(shell: Shell, model: Path) -> None:
    shell("model", "deploy", str(model), "--name", "double")
    until(lambda: ask(shell, "/v2/models/double/infer", INFER)[1].get("model_version") == "2", within_s=20)
    nonsense = shell.cwd / "nonsense.onnx"
    nonsense.write_bytes(b"this is no model")
    done = shell("model", "deploy", str(nonsense), "--name", "double", status=1)
    assert "error[constructor_failed]" in done.stderr and "unknown_model_format" in done.stderr
    assert ask(shell, "/v2/models/double/infer", INFER)[1]["model_version"] == "2"
    assert "failed" in shell("model", "show", "double").stdout
    assert shell("model", "logs", "double").stdout


def test_an_ended_model_is_unknown_and_its_name_can_be_used_again(shell: Shell, model: Path) -> None:
    assert shell("model", "delete", "double").stdout == "double: gone\n"
    until(lambda: ask(shell, "/v2/models/double/infer", INFER)[0] == 404, within_s=15)
    assert "error[unknown_model]" in shell("model", "show", "double", status=2).stderr
    shell("model", "deploy", str(model), "--name", "double")
    assert ask(shell, "/v2/models/double/infer", INFER)[1]["model_version"] == "4"
