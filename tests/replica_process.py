"""A replica's server in a process of its own, so that it can be killed: `start(version)` gives the process and its address."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy

from serve_apps.gateway.routes import Address
from tests.replica_server import ReplicaServer
from tests.unit.oip.models import Small


def echo(version: str) -> Small:
    """`m`: twice its input, and who it is."""
    who = numpy.array([int(version.partition(".")[0])], "<i4")
    return Small("m", "x FP32 -1", "y FP32 -1; who INT32 1", lambda arrays: {"y": 2 * arrays["x"], "who": who}, version=version)


def start(version: str) -> tuple[subprocess.Popen[str], Address]:
    root = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-m", "tests.replica_process", version], stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    return process, Address("127.0.0.1", int(process.stdout.readline()))


if __name__ == "__main__":
    print(ReplicaServer([echo(sys.argv[1])], takes_aliases=True).address.port, flush=True)
    while True:
        time.sleep(3600)
