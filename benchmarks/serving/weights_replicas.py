"""What a replica of a large model weighs: ours and plain Ray Serve's, as many of each, counted by their proportional set size."""

from __future__ import annotations

import concurrent.futures
import json
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from peers.recipe import Command, Place
from peers.server import Server
from weights_process import pss_bytes

_APPS = Path(__file__).with_name("peers") / "apps"
_SETTLE_TIMEOUT_S = 120
_WIDTH = 4096


@dataclass(frozen=True, slots=True)
class Replicas:
    """`name`: `ours` or `ray_serve`. `process_name`: what the title of a replica's process holds."""

    name: str
    model: Path
    num: int
    requirements: tuple[str, ...] = ()

    def command(self, place: Place) -> Command:
        app = _APPS / f"weights_{self.name}_app.py"
        env = {
            "FABRIC_STATE_DIR": str(place.workdir / "state"),
            "FABRIC_DASHBOARD__ENABLED": "false",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        }
        if self.name == "ray_serve":
            env["RAY_AUTH_MODE"] = "disabled"
        path = "/v2/models/big" if self.name == "ours" else "/big"
        argv = (str(place.python), str(app), str(place.http_port), str(place.grpc_port), str(self.model), str(self.num))
        ready = f"{path}/ready" if self.name == "ours" else path
        return Command(argv, f"{path}/infer", env=env, ready_path=ready)


def bytes_per_replica(replicas: Replicas, venvs: Path) -> float:
    """Started, asked until every replica has answered (and ours have gone over to the packed form), weighed, ended."""
    with Server(replicas) as server:
        server.install(venvs)
        server.start()
        end_s = time.monotonic() + _SETTLE_TIMEOUT_S
        while True:
            _ask_all(server.url, 4 * replicas.num)
            pids = [process.pid for process in server.processes() if "ServeReplica" in process.name() or _is_replica(process.pid)]
            settled = [pid for pid in pids if replicas.name == "ray_serve" or _is_packed(pid)]
            if len(settled) == replicas.num:
                return pss_bytes(settled) / replicas.num
            if time.monotonic() > end_s:
                raise SystemExit(f"{replicas.name}: {len(settled)} of {replicas.num} replicas ({len(pids)} seen) have settled")
            time.sleep(1)


def _is_replica(pid: int) -> bool:
    try:
        return b"ServeReplica" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_packed(pid: int) -> bool:
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    return "packed.bin" in maps and "mapped.bin" not in maps


def _ask_all(url: str, num: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(_ask, [url] * num))


def _ask(url: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, _WIDTH], "data": [0.5] * _WIDTH}
    request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
