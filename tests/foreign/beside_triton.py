"""Starts Triton (the binary of the `nvidia-pytriton` wheel, on the CPU) and sends it and our server the same requests.

Usage: python beside_triton.py OUR_URL, in an environment with nvidia-pytriton; `--keep PORT` instead of the URL only keeps Triton
running, gRPC on the port above. Needs Debian's Python 3.11, on which the wheel's backend runs. Exits 1 on a difference that
`differential.DEVIATIONS` does not explain, 77 where Triton does not start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn

from differential import compared
from triton_models import write_repository

START_S = 120.0
NO_TRITON = 77
"""Exit status where Triton does not start here: then there is nothing to compare with."""


def started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Triton with the models of `cases`; the gRPC port is the one above."""
    site = Path(sysconfig.get_paths()["purelib"])
    home = site / "pytriton" / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(home / "backends", backends)
    shutil.copy(home / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backends / "python")
    # The backend's process runs on the system's Python with a bare environment: it finds numpy beside itself.
    for package in site.glob("numpy*"):
        (backends / "python" / package.name).symlink_to(package)
    write_repository(folder / "models")
    command = [
        str(home / "bin" / "tritonserver"), f"--model-repository={folder / 'models'}", f"--backend-directory={backends}",
        f"--http-port={port}", f"--grpc-port={port + 1}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1",
        "--allow-metrics=false", "--model-control-mode=explicit", "--load-model=*", "--log-info=false", "--exit-timeout-secs=1",
    ]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            cannot(f"Triton ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    cannot(f"Triton is not ready after {START_S:g} s")


def cannot(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise SystemExit(NO_TRITON)


def free_pair() -> int:
    """A port that is free, with the one above it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def main() -> int:
    is_kept = sys.argv[1] == "--keep"
    port = int(sys.argv[2]) if is_kept else free_pair()
    # A kept one ends with the signal, and takes its backend's processes with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as folder:
        process = started(Path(folder), port)
        try:
            wait_until_ready(process, port)
            if is_kept:
                print(f"ready http://127.0.0.1:{port} 127.0.0.1:{port + 1}", flush=True)
                return process.wait()
            return compared(f"http://127.0.0.1:{port}", sys.argv[1])
        finally:
            # One of the requests ends it and leaves its backend's processes behind: the whole group goes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
