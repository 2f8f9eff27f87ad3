"""Thousands of bad requests at a real server process: nothing undeclared, no crash, and no body is held that is too large."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    """A gateway and the replica behind it."""
    command = [sys.executable, str(ROOT / "tests" / "foreign" / "replica.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, **pipes) as process:
        assert process.stdout is not None
        _, gateway, _, replica = process.stdout.readline().split()
        yield gateway, replica
        process.communicate("", timeout=20)


def test_two_thousand_bad_requests_are_all_refused_as_declared() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "serving" / "bad_requests.py"), "--json", "--requests", "2000", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
    figures = json.loads(done.stdout)
    assert (figures["undeclared"], figures["crashes"], figures["good_failed"]) == (0, 0, 0), done.stderr[-3000:]
    assert figures["answers"]["400"] > 1000


def said(url: str, head: bytes, body: bytes = b"") -> bytes:
    """The first line of the answer to raw bytes; empty where the server closes the connection without one."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30) as connection:
        connection.sendall(head + b"\r\n\r\n" + body)
        return connection.makefile("rb").readline().strip()


@pytest.mark.parametrize("place", [0, 1], ids=["gateway", "replica"])
def test_a_body_that_says_it_has_two_gigabytes_is_refused_before_it_comes(urls: tuple[str, str], place: int) -> None:
    head = b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2147483648"
    assert said(urls[place], head, b'{"inputs": [').startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("place", [0, 1], ids=["gateway", "replica"])
@pytest.mark.parametrize(
    "head", [b"NOPE", b"GET / HTTP/9.9", b"POST /v2/models/add/infer HTTP/1.1\r\nContent-Length: -5", b"\x16\x03\x01\x02"]
)
def test_what_is_no_http_is_refused_and_the_server_lives(urls: tuple[str, str], place: int, head: bytes) -> None:
    assert said(urls[place], head) in (b"",) or b" 400 " in said(urls[place], head)
    assert said(urls[place], b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close") == b"HTTP/1.1 200 OK"
