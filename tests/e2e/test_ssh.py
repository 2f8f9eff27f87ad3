"""Commands over a real SSH server on this machine; what really goes wrong is told apart."""

from __future__ import annotations

import http.server
import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from fabric.cluster.browser import TRIES, try_browser
from fabric.cluster.look import look_at
from fabric.machines.facts import look
from fabric.machines.plan import Cluster, read_cluster
from fabric.machines.ssh import Remote, SshAccess, SshError, ssh_error
from tests.labs import cluster_file

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not Path(SSHD).exists() or shutil.which("ssh") is None,
    reason="needs root, ssh and sshd (apt-get install openssh-server)",
)
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """An SSH server of the tests' own. `folder`: its keys; `access`: the way in."""

    folder: Path
    access: SshAccess
    process: subprocess.Popen[bytes]

    def copy_of_the_key(self, name: str, mode: int = 0o600) -> SshAccess:
        """Another file of the same key: no session that is open is shared with it."""
        assert self.access.private_key is not None
        path = self.folder / name
        shutil.copy(self.access.private_key, path)
        path.chmod(mode)
        return replace(self.access, private_key=str(path))


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    before, tempfile.tempdir = tempfile.tempdir, tempfile.mkdtemp(prefix="tf-ssh-")  # a socket's path must be short
    key, host_key = make_key(folder / "key"), make_key(folder / "host_key")
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress {HOST}\nHostKey {host_key}\nPidFile none\nPermitRootLogin prohibit-password\n"
        f"AuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=(folder / "log").open("wb"))
    user = pwd.getpwuid(os.getuid()).pw_name
    access = SshAccess(user, str(key), port, known_hosts=str(folder / "known_hosts"))
    deadline_s = time.monotonic() + 20
    while True:
        try:
            Remote(HOST, access).run("true")
            break
        except SshError:
            assert time.monotonic() < deadline_s and process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
    yield Server(folder, access, process)
    for file in folder.glob("*key*"):  # sessions are kept open for a minute
        if file.suffix != ".pub":
            words = Remote(HOST, replace(access, private_key=str(file))).argv()
            subprocess.run([*words[:-1], "-O", "exit", words[-1]], capture_output=True, check=False)
    process.terminate()
    process.wait()
    shutil.rmtree(tempfile.tempdir)
    tempfile.tempdir = before


def failure(access: SshAccess, host: str = HOST, command: str = "true") -> SshError:
    with pytest.raises(SshError) as error:
        Remote(host, access).run(command)
    return error.value


def test_a_command_gets_its_input_and_gives_its_output_and_status(server: Server) -> None:
    remote = Remote(HOST, server.access)
    done = remote.run("cat; echo oops >&2; exit 3", stdin=b"a\xffb\n")
    assert (done.status, done.stdout, done.stderr) == (3, "a\ufffdb\n", "oops\n") and done.last_lines(1) == "oops"
    assert remote.run("echo 'a b' $((1+1))").stdout == "a b 2\n"


def test_a_command_without_an_end_is_given_up(server: Server) -> None:
    with pytest.raises(SshError) as error:
        Remote(HOST, server.access).run("sleep 60", timeout_s=0.5)
    assert error.value.code == "timed_out" and "sleep 60" in error.value.message


def test_a_new_machine_is_noted_in_the_clusters_own_file(server: Server) -> None:
    noted = ["ssh-keygen", "-F", f"[{HOST}]:{server.access.port}", "-f", server.access.known_hosts]
    assert subprocess.run(noted, capture_output=True, check=False).returncode == 0


def test_a_machine_with_another_host_key_is_refused(server: Server) -> None:
    access = replace(server.copy_of_the_key("key_changed"), known_hosts=str(server.folder / "known_other"))
    other = make_key(server.folder / "other_host").with_suffix(".pub").read_text()
    Path(access.known_hosts).write_text(f"[{HOST}]:{access.port} {other}")
    error = failure(access)
    assert error.code == "host_key_changed" and error.hint is not None
    subprocess.run(["sh", "-c", error.hint.partition(": ")[2]], check=True, capture_output=True)  # the cure helps
    assert Remote(HOST, access).run("true").status == 0


def test_a_key_that_is_open_missing_wrong_or_the_public_half_is_told_apart(server: Server) -> None:
    stranger = make_key(server.folder / "stranger")
    public = server.folder / "half"
    shutil.copy(f"{server.access.private_key}.pub", public)
    public.chmod(0o600)
    codes = {
        "open": failure(server.copy_of_the_key("key_open", 0o644)).code,
        "missing": failure(replace(server.access, private_key=str(server.folder / "none"))).code,
        "stranger": failure(replace(server.access, private_key=str(stranger))).code,
        "public": failure(replace(server.access, private_key=str(public))).code,
    }
    assert codes == {"open": "ssh_key_open", "missing": "ssh_key_missing", "stranger": "ssh_refused", "public": "ssh_key_invalid"}


def test_a_port_on_which_nobody_listens_and_a_name_that_nobody_has_are_told_apart(server: Server) -> None:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    closed = failure(replace(server.access, port=port))
    assert closed.code == "no_ssh" and str(port) in closed.message
    assert failure(server.access, "no-such-machine.invalid").code == "host_unknown"


def test_a_server_that_hangs_up_is_told(server: Server) -> None:
    with socket.create_server((HOST, 0)) as rude:
        access = replace(server.access, port=rude.getsockname()[1])
        command = [*Remote(HOST, access).argv(), "true"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
            rude.accept()[0].close()
            _, said = client.communicate(timeout=20)
    assert ssh_error(HOST, access, said.decode()).code == "ssh_closed", said


def test_a_session_that_is_lost_in_the_middle_is_told(server: Server) -> None:
    access = server.copy_of_the_key("key_lost")
    error = failure(access, command="kill -9 $(ps -o ppid= -p $PPID) $PPID; sleep 5")
    assert error.code == "ssh_lost", error.message


def test_a_machine_is_seen_in_one_call(server: Server) -> None:
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
        facts = look(Remote(HOST, server.access), sys.executable, {port: "a test", 1: "nothing"})
    assert facts.text("python") == platform.python_version() and facts.text("ray") and facts.taken == {port}
    assert facts.has("is_home_writable") and not facts.node and facts.skew_s < 1.0 and facts.reached_s > 0
    for name in ("shm_bytes", "memory_bytes", "home_free_bytes", "tmp_free_bytes"):
        assert (facts.number(name) or 0) > 0, name
    missing = look(Remote(HOST, server.access), "python9.9", {})
    assert missing.text("python") == "" and missing.text("other_python").startswith("Python 3")


# -- a cluster whose head is this machine ----------------------------------------------------------------------------------


def cluster(server: Server, **provider: object) -> Cluster:
    changes: dict[str, object] = {f"provider/{name}": value for name, value in provider.items()}
    changes |= {
        "provider/ssh_port": provider.get("ssh_port", server.access.port),
        "provider/environment": sys.prefix,
        "auth": {"ssh_user": server.access.user, "ssh_private_key": server.access.private_key},
        "available_node_types/head/node_config": {"machines": [HOST]},
        "available_node_types/hot/node_config": {"machines": ["no-such-machine.invalid"]},
    }
    made = read_cluster(cluster_file(changes))
    return replace(made, access=replace(made.access, known_hosts=server.access.known_hosts))


class Page(http.server.BaseHTTPRequestHandler):
    """A dashboard that answers with one status, and keeps what it was asked."""

    status = 200
    asked: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, dict(self.headers)))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[int]:
    Page.asked.clear()
    web = http.server.ThreadingHTTPServer((HOST, 0), Page)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web.server_address[1]
    web.shutdown()
    web.server_close()


@pytest.mark.parametrize(("status", "state"), [(401, "ok"), (403, "ok"), (200, "fail"), (404, "fail"), (500, "fail")])
def test_a_page_in_a_browser_on_the_head_must_be_refused(server: Server, page: int, status: int, state: str) -> None:
    Page.status = status
    checks = list(try_browser(cluster(server, ports={"dashboard": page})))
    assert [check.state for check in checks] == [state] * len(TRIES)
    assert all(bool(check.cure) == (state == "fail") and check.where == f"{HOST} (head)" for check in checks)
    assert [(method, path) for method, path, _ in Page.asked] == [(method, path) for _, method, path, _ in TRIES]
    for (_, _, headers), (_, _, _, wanted) in zip(Page.asked, TRIES, strict=True):
        assert wanted.items() <= headers.items() and "Authorization" not in headers


def test_where_no_dashboard_listens_no_page_gets_in(server: Server) -> None:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    checks = list(try_browser(cluster(server, ports={"dashboard": port})))
    assert {check.state for check in checks} == {"ok"} and all("nothing listens" in check.detail for check in checks)


def test_a_machine_that_answers_is_judged_and_one_that_does_not_is_one_failing_check(server: Server) -> None:
    with socket.create_server((HOST, 0)) as busy:
        port = busy.getsockname()[1]
        seen = look_at(cluster(server, ports={"gcs": port}), HOST, "abc", {})
        closed = look_at(cluster(server, ssh_port=1), HOST, "abc", {})
    checks = {check.name: check for check in seen.checks}
    assert seen.facts is not None and {"ssh", "python", "ray", "tierfabric"} <= {name for name in checks if checks[name].state == "ok"}
    assert checks[f"port {port}"].state == "fail" and seen.failing is not None
    unnamed = look_at(cluster(server), "no-such-machine.invalid", "abc", {})
    for one, name in ((closed, "ssh"), (unnamed, "name")):
        assert one.facts is None and [check.name for check in one.checks] == [name] and one.failing == one.checks[0]
        assert one.checks[0].cure and not one.checks[0].detail.startswith(one.host)
