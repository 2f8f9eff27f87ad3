"""The API over real sockets: found by its file, connections kept, restarts survived, large bodies streamed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fabric.api.address import ADDRESS_FILE, TOKEN_FILE, read_address
from fabric.api.app import create_app
from fabric.api.serve import ApiServer
from fabric.api.tokens import Tokens, ensure_token_file
from fabric.api_client import ApiClient, HttpTransport, client_of
from fabric.artefacts import Digest
from fabric.config import FabricConfig
from fabric.errors import ConfigError, UnavailableError, UserError
from fabric.jobs import Jobs, job
from fabric.journal import Journal
from fabric.plane.plane import JobPlane
from fabric.states import JobState
from tests.local_plane import LocalPlane, a_plane

UNTIL_S = 30.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalPlane]:
    with a_plane(tmp_path / "fabric") as made:
        yield made


@pytest.fixture
def plane(local: LocalPlane) -> JobPlane:
    return local.plane


@pytest.fixture
def server(local: LocalPlane, state: Path) -> Iterator[ApiServer]:
    ensure_token_file(state / TOKEN_FILE, local.tokens, "ann")
    made = ApiServer(create_app(local.plane, local.tokens), address_file=state / ADDRESS_FILE)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def jobs(server: ApiServer, state: Path) -> Jobs:
    return Jobs(client_of(FabricConfig(state_dir=state)))


def test_a_client_finds_api_and_token_in_the_state_directory(jobs: Jobs, plane: JobPlane) -> None:
    made = jobs.submit(job("echo one; sleep 0.2; echo two"))
    assert "".join(made.logs(follow=True)) == "one\ntwo\n" and made.wait(UNTIL_S) is JobState.SUCCEEDED  # type: ignore[union-attr]
    assert plane.job(made.id).user == "ann"


def test_it_listens_on_this_machine_only_and_takes_its_file_with_it(server: ApiServer, state: Path) -> None:
    assert server.url == read_address(state / ADDRESS_FILE) and urlsplit(server.url).hostname == "127.0.0.1"
    server.stop()
    with pytest.raises(UnavailableError):
        read_address(state / ADDRESS_FILE)


def test_a_port_in_use_is_told(server: ApiServer, local: LocalPlane) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(ConfigError) as taken:
        ApiServer(create_app(local.plane, local.tokens), port=port).start()
    assert taken.value.code == "address_in_use"


def test_requests_of_a_thread_share_a_connection(server: ApiServer, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    connect = http.client.HTTPConnection.connect

    def counted(self: http.client.HTTPConnection) -> None:
        opened.append(self)
        connect(self)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", counted)
    for _ in range(20):
        jobs.api.get("/v1/jobs")
    assert len(opened) == 1


def test_a_connection_that_the_server_closed_is_opened_anew(server: ApiServer, jobs: Jobs) -> None:
    jobs.api.get("/v1/jobs")
    transport = jobs.api._transport
    assert isinstance(transport, HttpTransport)
    kept = transport._local.kept[1]
    kept.sock.shutdown(socket.SHUT_RDWR)
    assert jobs.api.get("/v1/health") == {"status": "ok", "api": "v1"}


def test_what_may_not_be_repeated_goes_over_a_connection_of_its_own(jobs: Jobs) -> None:
    jobs.api.get("/v1/health")
    transport = jobs.api._transport
    assert isinstance(transport, HttpTransport)
    kept = transport._local.kept[1]
    made = jobs.api.post("/v1/tokens", {"user": "zoe"}, can_repeat=False)
    assert made["user"] == "zoe" and transport._local.kept[1] is not kept


def test_a_restart_on_another_port_is_waited_out_and_nothing_is_submitted_twice(
    server: ApiServer, jobs: Jobs, plane: JobPlane, state: Path, tmp_path: Path
) -> None:
    jobs.submit(job("true"))
    server.stop()
    tokens = Tokens(Journal(f"sqlite:///{tmp_path / 'other.db'}"))
    again = ApiServer(create_app(plane, tokens), address_file=state / ADDRESS_FILE)

    def restart() -> None:
        ensure_token_file(state / TOKEN_FILE, tokens, "ann")
        again.start()

    before = len(plane.core.jobs)
    late = threading.Timer(0.7, restart)
    late.start()
    try:
        made = jobs.submit(job("true", name="meanwhile"))
    finally:
        late.join()
        again.stop()
    assert len(plane.core.jobs) == before + 1 and plane.job("meanwhile").id == made.id


def test_a_fabric_that_is_down_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        began_s = time.monotonic()
        with pytest.raises(UnavailableError) as away:
            ApiClient(HttpTransport(lambda: url), lambda: "t").get("/v1/jobs")
    assert time.monotonic() - began_s < 5 and url in away.value.message and away.value.exit_status == 4


def test_a_working_directory_of_megabytes_arrives_whole(jobs: Jobs, local: LocalPlane, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "noise.bin").write_bytes(os.urandom(24 * 2**20))
    made = jobs.submit(job("true", working_dir=folder))
    with local.plane.store.open(Digest(local.how(made.id).working_dir)) as stored:
        assert len(stored.read()) > 24 * 2**20


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(server: ApiServer, state: Path) -> None:
    parts = urlsplit(server.url)
    token = (state / TOKEN_FILE).read_text().strip()
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=UNTIL_S)
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(700 * 2**20)}
    connection.request("PUT", "/v1/artefacts", headers=headers)
    response = connection.getresponse()
    assert response.status == 413 and json.loads(response.read())["code"] == "too_large"
    connection.close()


def test_many_may_wait_at_once_while_others_are_served(jobs: Jobs, plane: JobPlane) -> None:
    blocker = jobs.submit(job("sleep 60", name="blocker"))
    waiting = [threading.Thread(target=lambda: jobs.api.get(f"/v1/jobs/{blocker.id}/wait", {"timeout_s": 20})) for _ in range(60)]
    for thread in waiting:
        thread.start()
    began_s = time.monotonic()
    for _ in range(20):
        jobs.api.get("/v1/jobs")
    assert time.monotonic() - began_s < 10 and all(thread.is_alive() for thread in waiting)
    blocker.cancel()  # type: ignore[union-attr]
    for thread in waiting:
        thread.join(UNTIL_S)
    assert not any(thread.is_alive() for thread in waiting)


def test_a_token_file_that_others_can_read_is_not_sent(server: ApiServer, state: Path) -> None:
    (state / TOKEN_FILE).chmod(0o644)
    with pytest.raises(UserError) as refused:
        client_of(FabricConfig(state_dir=state)).get("/v1/jobs")
    assert refused.value.code == "token_file_open"


def test_the_command_line_follows_a_job_and_ctrl_c_leaves_it_running(server: ApiServer, plane: JobPlane, state: Path) -> None:
    code = (
        "from fabric.cli.main import Root; Root(name='fabric', table={'submit': ('fabric.cli.submit:submit', '')}).main(prog_name='fabric')"
    )
    env = {**os.environ, "FABRIC_STATE_DIR": str(state)}
    command = [sys.executable, "-c", code, "submit", "-f", "--name", "ctrl-c", "--", "echo started; sleep 60"]
    # Where the tests run in a shell's background they ignore the signal, and what they start would, too.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line == "started\n":
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=UNTIL_S)
    assert process.returncode == 130 and "the job goes on" in told
    assert plane.job("ctrl-c").state is JobState.RUNNING
