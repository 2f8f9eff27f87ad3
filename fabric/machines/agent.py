"""What a launch runs on a machine: `python -m fabric.machines.agent start|stop|status`. One JSON document comes back.

start MODE UNTIL   stdin: a NodeSpec. Waits until Ray runs (`up`) or others can join (`gcs`), or until it is known that it does not.
                   A second start changes nothing. MODE: what becomes of a node that runs with other settings: `keep` refuses,
                   `restart` ends it first, `fresh` ends any node of this cluster.
stop CLUSTER       ends the node and its watchdog; with `final` also what a head remembers. Does nothing where none runs.
status             what runs here
claim              stdin: {host: [node type, tags]}. The head's record of these machines, taken now where they are free
settle             stdin: {host: [state, reason]}. What came of their starts
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fabric.errors import FabricError, RejectedError, RuntimeFault
from fabric.machines import firewall, supervisor
from fabric.machines.book import Book
from fabric.machines.command import GCS_DIRECTORY, run_script
from fabric.machines.node_files import NodeFiles
from fabric.machines.spec import NodeSpec, read_spec
from fabric.types import FLAVOR_LABEL

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


def start(spec: NodeSpec, files: NodeFiles, mode: str = "keep", until: str = "up") -> dict[str, Any]:
    """Raises: RejectedError (`launch_running`, `other_cluster`, `settings_changed`), RuntimeFault (`ray_failed`, `start_timeout`)."""
    with files.launching():
        spec = described(spec)  # compared as it would run: what was found here is part of it
        status = files.read_status()
        if files.watchdog_pid() is not None and status is not None:
            if status.cluster != spec.cluster:
                raise RejectedError(
                    f"it belongs to cluster {status.cluster!r}", code="other_cluster", hint=f"fabric down for {status.cluster!r} first"
                )
            is_same = status.digest == spec.digest()
            if is_same and mode != "fresh":
                firewall.close(spec)  # the cluster may have grown
                return {**_await(files, files.read_spec(), until), "is_new": False}
            if mode == "keep":
                raise RejectedError(
                    "its node runs with other settings", code="settings_changed", hint="`fabric up FILE --restart` ends and starts it"
                )
            _stop(files)
        files.write_spec(spec)
        files.write_status("starting", spec, 0)
        firewall.close(spec)
        files.write_run(run_script(spec, str(Path.home())))
        supervisor.start(files)
        try:
            return {**_await(files, spec, until), "is_new": True}
        except FabricError:
            _stop(files)  # nothing half-done stays: a node that does not start is not tried for ever behind the user's back
            raise


def described(spec: NodeSpec) -> NodeSpec:
    """With the labels and resources that `fabric node labels` finds on this machine, where the cluster file names no flavor."""
    if FLAVOR_LABEL in spec.labels:
        return spec
    fabric = Path(spec.environment).expanduser() / "bin" / "fabric"
    done = subprocess.run([str(fabric), "node", "labels", "-o", "json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeFault("what this machine is cannot be told", code="not_described", hint="name its flavor in the labels of its node"
                           " type", log=done.stderr[-1000:])  # fmt: skip
    found = json.loads(done.stdout)
    return dataclasses.replace(spec, labels={**found["labels"], **spec.labels}, resources={**found["resources"], **spec.resources})


def stop(files: NodeFiles, cluster: str, *, is_final: bool) -> dict[str, Any]:
    """End the node of `cluster`."""
    status, was_running = files.read_status(), files.watchdog_pid() is not None
    if was_running and status is not None and status.cluster != cluster:
        return {"state": "other", "was_running": False, "cluster": status.cluster}
    _stop(files)
    firewall.open_again()
    if is_final:
        Book().clear()
        shutil.rmtree(Path(GCS_DIRECTORY).expanduser() / cluster, ignore_errors=True)
    return {"state": "stopped", "was_running": was_running}


def status(files: NodeFiles) -> dict[str, Any]:
    known = files.read_status()
    is_alive = files.watchdog_pid() is not None
    return {"is_running": is_alive, **(asdict(known) if known else {}), **({} if is_alive else {"state": "stopped"})}


def claim(wanted: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, Any]:
    entries = Book().claim({host: node_type for host, (node_type, _) in wanted.items()}, dict(wanted.values()))
    return {"instances": {host: entry.instance_id for host, entry in entries.items()}}


def settle(outcomes: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    book = Book()
    for host, (state, reason) in outcomes.items():
        book.settle(host, state, reason)
    return {"settled": len(outcomes)}


def _await(files: NodeFiles, spec: NodeSpec, until: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        status = files.read_status()
        if status is not None and (status.state == "up" or (until == "gcs" and _answers(spec))):
            return {"state": "up", "instance_id": status.instance_id}
        if status is not None and status.state == "down":
            raise RuntimeFault("Ray ended as it started", code="ray_failed", hint=_reason(status.detail), log=status.detail)
        time.sleep(0.05)
    raise RuntimeFault(
        f"Ray has not started within {START_TIMEOUT_S:g} s",
        code="start_timeout",
        hint=f"see {files.ray_log} there; does it reach {spec.head}:{spec.ports.gcs}?",
        log=files.tail(),
    )


def _answers(spec: NodeSpec) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((spec.head, spec.ports.gcs)) == 0


def _reason(log: str) -> str:
    """What the log's own words mean, where they are known."""
    if "Authentication" in log or "UNAUTHENTICATED" in log or "auth token" in log.lower():
        return "the head has another token: is ~/.ray/auth_token there of another cluster?"
    if "No space left" in log:
        return "its disk is full: make room"
    if "address already in use" in log.lower() or "already running" in log:
        return "a port that Ray needs is taken: another Ray runs there"
    if "Version mismatch" in log:
        return "its Ray or Python is another than the head's"
    if "GCS" in log or "Failed to connect" in log:
        return "it does not reach the head: a firewall between them?"
    return "the last lines of its own log are above"


def _stop(files: NodeFiles) -> None:
    supervisor.stop(files)
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while (pid := files.watchdog_pid()) is not None and time.monotonic() < deadline_s:
        time.sleep(0.05)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def main(argv: list[str]) -> int:
    files = NodeFiles()
    try:
        match argv:
            case ["start", mode, until]:
                answer = start(read_spec(sys.stdin.read()), files, mode, until)
            case ["stop", cluster, *rest]:
                answer = stop(files, cluster, is_final="final" in rest)
            case ["status"]:
                answer = status(files)
            case ["claim"]:
                answer = claim(json.loads(sys.stdin.read()))
            case ["settle"]:
                answer = settle(json.loads(sys.stdin.read()))
            case _:
                raise RejectedError(f"unknown command {argv}", code="usage")
    except FabricError as error:
        answer = {"error": error.code, "message": error.message, "hint": error.hint, **error.context}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
