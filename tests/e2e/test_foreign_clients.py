"""Clients that others wrote talk to our server, and the conformance kit judges it: each in a process of its own, over real sockets.

By default only NVIDIA's tritonclient is installed (seconds); `make test-clients` takes all, and Triton itself to compare with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.foreign.environments import NotInstallable, python_of

FOREIGN = Path(__file__).parents[1] / "foreign"
ROOT = FOREIGN.parents[1]
LEAST_HELD = 10
NOTHING_TO_DO = 77
"""Exit status of a script that lacks what it needs."""

needs_all_clients = pytest.mark.skipif("FABRIC_ALL_CLIENTS" not in os.environ, reason="run by `make test-clients`")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, str]]:
    """A server process with the models of `tests/foreign/services.py`: its URL, and the address of its gRPC."""
    command = [sys.executable, str(FOREIGN / "replica.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], words
        yield words[1], words[2]
        assert process.poll() is None, "the server ended under its clients"
        process.communicate("", timeout=20)


def interpreter(environment: str) -> Path:
    try:
        return python_of(environment)
    except NotInstallable as error:
        pytest.skip(str(error))


def ran(environment: str, script: str, *arguments: str) -> str:
    """What the script printed. Skips where it cannot run here; fails where it ends with an error."""
    command = [str(interpreter(environment)), str(FOREIGN / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode == NOTHING_TO_DO:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def held(output: str) -> int:
    """How many things a client's script found to hold."""
    return int(output.split()[-2])


def test_tritonclient_over_http(server: tuple[str, str]) -> None:
    assert held(ran("triton", "tritonclient_http.py", server[0])) > LEAST_HELD


def test_tritonclient_over_grpc(server: tuple[str, str]) -> None:
    assert held(ran("triton", "tritonclient_grpc.py", server[1])) > LEAST_HELD


def test_the_conformance_kit_as_a_command(server: tuple[str, str]) -> None:
    command = [
        sys.executable, "-m", "serve_apps.oip.conformance", server[0], "--grpc", server[1], "--json", "--robustness",
        "--identity", "identity_*", "--identity", "vector", "--identity", "echo_text", "--strict",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, cwd=ROOT)
    found = json.loads(done.stdout)
    assert [(each["id"], each["expected"], each["got"]) for each in found["checks"] if each["verdict"] == "fail"] == []
    assert [each["id"] for each in found["checks"] if each["verdict"] == "skip"] == []
    assert done.returncode == 0


@needs_all_clients
def test_the_clients_of_kserve(server: tuple[str, str]) -> None:
    assert held(ran("kserve", "kserve_client.py", *server)) > LEAST_HELD


@needs_all_clients
def test_the_codecs_and_the_command_of_mlserver(server: tuple[str, str]) -> None:
    assert held(ran("mlserver", "mlserver_client.py", server[0])) > LEAST_HELD


@needs_all_clients
def test_the_clients_generated_from_the_specification(server: tuple[str, str]) -> None:
    assert held(ran("generated", "generated_client.py", *server)) >= LEAST_HELD


@needs_all_clients
def test_our_server_answers_as_triton_does(server: tuple[str, str]) -> None:
    ran("tritonserver", "beside_triton.py", server[0])


@needs_all_clients
def test_what_schemathesis_draws_from_the_openapi_document_is_answered_as_it_says(server: tuple[str, str], tmp_path: Path) -> None:
    """Statuses, content types and bodies; a 5xx that an operation declares is none of its failures."""
    command = [
        str(interpreter("schemathesis").with_name("st")), "--config-file", str(FOREIGN / "schemathesis.toml"),
        "run", f"{server[0]}/openapi.json",
        "--phases", "coverage,fuzzing", "-n", "10", "--seed", "1", "--continue-on-failure", "--no-color",
        "--checks", "status_code_conformance,content_type_conformance,response_schema_conformance",
    ]  # fmt: skip
    # It keeps what it has found in the current folder.
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:]
