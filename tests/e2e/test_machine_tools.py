"""What a machine's own tools say of what is made for it: nftables, systemd, pip; locks between processes; doors that are really open."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from fabric.cluster.doors import Door, knock
from fabric.machines import firewall, supervisor
from fabric.machines.node_files import NodeFiles
from fabric.machines.wheel import pack
from tests.labs import HEAD, HOT

ROOT = Path(__file__).parents[2]

# -- tools -----------------------------------------------------------------------------------------------------------------


MANY = [f"10.1.{number // 250}.{number % 250}" for number in range(1000)]


def nft_check(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["nft", "-c", "-f", "-"], input=text, text=True, capture_output=True, check=False)


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("nft") is None, reason="needs root and nft (apt-get install nftables)")
@pytest.mark.parametrize(
    "friends",
    [[], [HEAD, HOT], ["127.0.0.1", HEAD], ["10.0.0.0/8", HEAD], ["fd00::1", "fd00::/8"], MANY],
    ids=["none", "some", "loopback", "a network and one of it", "six", "a thousand"],
)  # fmt: skip
def test_nftables_takes_the_rules(friends: list[str]) -> None:
    allowed = nft_check("table inet tierfabric_probe {\n chain c {\n type filter hook input priority filter\n }\n}\n")
    if allowed.returncode:
        pytest.skip(f"nftables is not allowed here: {allowed.stderr.strip()[:100]}")
    done = nft_check(firewall.rules([6385, *firewall.UNGUARDED], friends))
    assert (done.returncode, done.stderr) == (0, "")
    assert nft_check(firewall.rules([6385], ["not an address!"])).returncode != 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    def verify(text: str) -> str:
        unit = tmp_path / supervisor.UNIT
        unit.write_text(text, encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if supervisor.UNIT in line)

    assert verify(supervisor.unit()) == ""
    assert "Restrat" in verify(supervisor.unit().replace("Restart=", "Restrat="))


def test_pip_installs_the_wheel_and_what_is_installed_is_this_tierfabric(tmp_path: Path) -> None:
    release = pack(tmp_path / "ship")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index", str(release.wheel)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
    code = (
        "import fabric.machines.spec as s, pools, importlib.metadata as m; from pathlib import Path\n"
        "print(m.version('tierfabric')); print(s.__file__); print(Path(pools.__file__).with_name('flavors.yaml').exists())\n"
        "print(all(f.locate().exists() for f in m.files('tierfabric')))"
    )
    told = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout
    version, file, *rest = told.splitlines()
    assert (
        release.wheel.name == f"tierfabric-{version}-py3-none-any.whl"
        and file.startswith(str(tmp_path / "env"))
        and rest == ["True", "True"]
    )
    assert (tmp_path / "env" / "bin" / "fabric").exists()
    assert Path(file).read_bytes() == (ROOT / "fabric" / "machines" / "spec.py").read_bytes()


# -- locks between processes -----------------------------------------------------------------------------------------------

HOLDER = """
import subprocess, sys
from pathlib import Path
from fabric.machines.node_files import NodeFiles
files = NodeFiles(Path(sys.argv[1]))
held = files.hold()
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, close_fds=False)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_watchdog_that_is_killed_lets_go_even_where_its_children_live_on(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            assert files.watchdog_pid() == holder.pid
            with pytest.raises(OSError):
                files.hold()
            holder.kill()
            holder.wait()
            os.kill(child, 0)  # it lives on
            assert files.watchdog_pid() is None
            os.close(files.hold())
        finally:
            os.kill(child, 9)


# -- doors -----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def http_door(status: int) -> Iterator[int]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def grpc_door(code: grpc.StatusCode) -> Iterator[int]:
    class Answer(grpc.GenericRpcHandler):
        def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            def handle(_request: bytes, context: grpc.ServicerContext) -> bytes:
                context.set_code(code)
                return b""

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.server(ThreadPoolExecutor(2), handlers=(Answer(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextlib.contextmanager
def silent_door() -> Iterator[int]:
    """It accepts, and says nothing of any protocol: as a port does that wants TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        is_over = threading.Event()

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while not is_over.is_set():
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            is_over.set()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("status", "answer"), [(200, "open"), (404, "open"), (500, "open"), (302, "open"), (401, "refused"), (403, "refused")]
)
def test_a_page_is_shut_only_to_who_is_refused(status: int, answer: str) -> None:
    with http_door(status) as port:
        assert knock("127.0.0.1", Door(port, "a page", "http", "/metrics")) == answer


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (grpc.StatusCode.OK, "open"),
        (grpc.StatusCode.UNIMPLEMENTED, "open"),
        (grpc.StatusCode.INTERNAL, "open"),
        (grpc.StatusCode.UNAUTHENTICATED, "refused"),
        (grpc.StatusCode.PERMISSION_DENIED, "refused"),
    ],
)
def test_a_service_is_shut_only_to_who_is_refused(code: grpc.StatusCode, answer: str) -> None:
    with grpc_door(code) as port:
        assert knock("127.0.0.1", Door(port, "a service", "grpc", "/ray.rpc.NodeManagerService/GetNodeStats")) == answer


def test_a_port_that_nobody_listens_on_or_that_hangs_up_is_shut() -> None:
    for how, path in (("http", "/"), ("grpc", "/a.B/C")):
        assert knock("127.0.0.1", Door(closed_port(), "nothing", how, path)) == "shut"  # type: ignore[arg-type]
        with silent_door() as port:
            assert knock("127.0.0.1", Door(port, "silence", how, path)) == "shut"  # type: ignore[arg-type]
