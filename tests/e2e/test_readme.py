"""Types in what the README says, block by block, in one fresh process on a twin of its own.

A Python block runs as it stands. `expression  # -> value` states a result; `curl …  # answer` states what a service answers.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATED = re.compile(r"(?P<expression>\S.*?)\s+# -> (?P<value>.+)")
_CURL = re.compile(r"(?P<command>curl .+?)\s+# (?P<answer>\{.+\})")

# The port of served models is the only thing that is not as typed: another program of this machine may hold 8000.
PRELUDE = """
import json, os, urllib.request
os.environ["FABRIC_SERVING__PORT"] = "{port}"

def stated(line, value, expected):
    assert repr(value) == expected, f"{{line}}: the README says {{expected}}, it is {{value!r}}"

def post(url, body):
    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=30) as answer:
        return json.load(answer)
"""


def script(readme: str, port: int) -> str:
    """The README as a program that checks its own statements."""
    lines = [PRELUDE.format(port=port)]
    for language, block in _BLOCK.findall(readme.replace("127.0.0.1:8000", f"127.0.0.1:{port}")):
        for line in block.splitlines():
            if language == "python":
                lines.append(_checked(line))
            elif curl := _CURL.fullmatch(line):
                lines.append(_posted(curl["command"], curl["answer"]))
    return "\n".join(lines)


def _checked(line: str) -> str:
    found = _STATED.fullmatch(line)
    return f"stated({found['expression']!r}, ({found['expression']}), {found['value']!r})" if found else line


def _posted(command: str, answer: str) -> str:
    words = shlex.split(command)
    url, body = next(word for word in words if word.startswith("http")), words[words.index("-d") + 1]
    return f"stated({command!r}, post({url!r}, {body!r}), repr(json.loads({answer!r})))"


def test_statements_of_the_readme_are_found() -> None:
    text = script(README.read_text(encoding="utf-8"), 1234)
    assert text.count("\nstated(") >= 6
    assert "post('http://127.0.0.1:1234/shout/predict'" in text


def free_pair() -> int:
    """A port for REST whose next one, gRPC's, is free as well: below those that the system gives to whoever connects."""
    for port in range(random.randrange(20_000, 30_000), 32_000):
        with contextlib.suppress(OSError), socket.socket() as rest, socket.socket() as grpc:
            rest.bind(("127.0.0.1", port))
            grpc.bind(("127.0.0.1", port + 1))
            return port
    pytest.fail("no two ports in a row are free")


@pytest.mark.timeout(330)
def test_the_readme_typed_in_does_what_it_says(tmp_path: Path) -> None:
    port = free_pair()
    program = tmp_path / "readme.py"
    program.write_text(script(README.read_text(encoding="utf-8"), port), encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("FABRIC_") and name != "RAY_ADDRESS"}
    env |= {"FABRIC_STATE_DIR": str(tmp_path / "state"), "FABRIC_DASHBOARD__ENABLED": "false"}
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for shown in ("reason: ", "predicted: wait ", "measured: ", "(twin)", "error[no_fit]: ", "the largest has 1", "hint: "):
        assert shown in done.stdout
