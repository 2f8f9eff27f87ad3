"""The console of a real twin, as a browser would ask it: what is there, what changes, what a button does, and what a kill costs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

FABRIC = (sys.executable, "-m", "fabric.cli.main")
UNTIL_S = 90.0
ROOT = Path(__file__).parents[3]


class Fabric:
    """A twin with a state directory of its own, and its console with a token."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIC_", "RAY_"))}
        self.env |= {"FABRIC_STATE_DIR": str(state), "FABRIC_DASHBOARD__ENABLED": "false"}
        self.up_text = self.run("up")
        self.opened = json.loads(self.run("console", "-o", "json"))
        self.token = self.opened["address"].partition("#token=")[2]

    def run(self, *args: str) -> str:
        done = subprocess.run([*FABRIC, *args], capture_output=True, text=True, timeout=150, check=False, env=self.env, cwd=self.state)
        assert done.returncode == 0, f"fabric {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def written(self, name: str) -> Any:
        """`api.json` or `console.json`, as it is now."""
        return json.loads((self.state / name).read_text(encoding="utf-8"))

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        connection = self.connect()
        try:
            sent = b"" if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, {"Authorization": f"Bearer {token or self.token}"})
            reply = connection.getresponse()
            content = reply.read()
            return reply.status, json.loads(content) if reply.headers.get_content_type() == "application/json" else content
        finally:
            connection.close()

    def see(self, path: str) -> Any:
        status, document = self.ask("GET", path)
        assert status == 200, document
        return document

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.written("console.json")["url"]).netloc, timeout=60)


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    state = tmp_path_factory.mktemp("state")
    made = Fabric(state)
    yield made
    made.run("down")


def until(look: Callable[[], Any], what: str) -> Any:
    """What `look` finds as soon as it finds something; a console that is being started anew finds nothing."""
    deadline_s = time.monotonic() + UNTIL_S
    while time.monotonic() < deadline_s:
        try:
            if found := look():
                return found
        except (OSError, http.client.HTTPException, AssertionError, LookupError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {UNTIL_S:.0f} s")


class Listener:
    """An open page: its events, as they come."""

    def __init__(self, fabric: Fabric) -> None:
        self.events: list[tuple[str, Any]] = []
        self._connection = fabric.connect()
        self._connection.request("GET", "/v1/console/events", headers={"Authorization": f"Bearer {fabric.token}"})
        self._reply = self._connection.getresponse()
        assert self._reply.headers.get_content_type() == "text/event-stream"
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        kind = ""
        try:
            for line in self._reply:
                text = line.decode().strip()
                if text.startswith("event: "):
                    kind = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    self.events.append((kind, json.loads(text.removeprefix("data: "))))
        except (OSError, http.client.HTTPException, ValueError):
            return  # it was killed

    def of(self, kind: str) -> list[Any]:
        return [event for each, event in self.events if each == kind]


def test_up_and_status_say_where_it_is(fabric: Fabric) -> None:
    url = fabric.written("console.json")["url"]
    assert f"console: {url}\n" in fabric.up_text and fabric.token not in fabric.up_text
    assert json.loads(fabric.run("status", "-o", "json"))["console"] == url == fabric.opened["url"]
    assert sorted(fabric.opened) == ["address", "expires_s", "scopes", "token_id", "url"] and fabric.opened["scopes"] == [
        "operate",
        "submit",
    ]
    assert fabric.run("console", "--no-open", "--scope", "read").startswith(f"{url}/#token=tf_")


def test_the_overview_shows_the_three_tiers(fabric: Fabric) -> None:
    overview = until(
        lambda: (seen := fabric.see("/v1/console/overview")) and all(tier["nodes"] for tier in seen["tiers"]) and seen, "nodes"
    )
    assert [tier["tier"] for tier in overview["tiers"]] == ["hot", "warm", "cold"] and overview["api_problem"] is None
    assert all(flavor["twin"] and flavor["ready"] == 1 for tier in overview["tiers"] for flavor in tier["flavors"])
    assert fabric.ask("GET", "/v1/console/overview", token="tf_000000000000_" + "a" * 43)[0] == 401


def test_a_job_comes_through_the_events_into_list_and_timeline(fabric: Fabric) -> None:
    page = Listener(fabric)
    until(lambda: page.of("hello"), "the event hello")
    name = "<script>alert(1)<'script>"
    status, made = fabric.ask("POST", "/v1/jobs", {"command": "echo hello; sleep 1", "name": name})
    assert status == 201
    job_id = made["ids"][0][0]
    until(lambda: any(job_id in (event["ids"] or ()) and event["states"].get("SUCCEEDED") for event in page.of("jobs")), "the job's end")
    (job,) = fabric.see(f"/v1/console/jobs?text={job_id}")["jobs"]
    assert (job["name"], job["state"], job["tier"], job["asks"]) == (name, "SUCCEEDED", "cold", "cpu:1")
    timeline = fabric.see("/v1/console/timeline")
    assert [(timeline["rows"][bar[0]]["tier"], bar[6], bar[8]) for bar in timeline["bars"]] == [("cold", name, "ok")]
    until(lambda: any(event["jobs"].get("SUCCEEDED") for event in page.of("overview")), "the event overview")
    assert fabric.ask("GET", f"/v1/jobs/{job_id}/logs")[1] == b"hello\n"


CALLS = """
import fabric
import numpy as np

fabric.connect()

@fabric.task
def brightness(image):
    return float(image.mean())

@brightness.variant(flavor="gpu", num_gpus=1)
def brightness_accelerated(image):
    return float(image.mean())

print(brightness.map([np.full((64, 64, 3), i, np.uint8) for i in range(20)])[:3])
"""


def test_a_task_that_was_called_is_listed_with_what_was_measured_beside_what_is_predicted(fabric: Fabric) -> None:
    script = fabric.state / "calls.py"
    script.write_text(CALLS, encoding="utf-8")
    env = fabric.env | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script)], env=env, cwd=fabric.state, check=True, timeout=UNTIL_S)
    row = until(
        lambda: next((row for row in fabric.see("/v1/console/tasks?text=brightness")["tasks"] if row["runs"] >= 20), None),
        "the task with its runs",
    )
    told = fabric.see("/v1/console/tasks/brightness")
    assert (told["task"], told["key"], told["domain"]) == (row["task"], row["key"], "cv") and told["runs"] >= 20
    ways = {(way["flavor"], way["variant"]): way for way in told["ways"]}
    first = told["ways"][0]
    assert first["chosen"] and first["run_s"] > 0 and first["twin"] and len(ways) >= 3
    ran = [way for way in told["ways"] if way["measured"]]
    assert ran and all(way["measured"]["runs"] > 0 and way["measured"]["run_s"] > 0 for way in ran)
    by_command = json.loads(fabric.run("profile", "brightness", "-o", "json"))
    assert {name: told[name] for name in ("target", "kind", "domain", "cheapest")} == {
        name: by_command[name] for name in ("target", "kind", "domain", "cheapest")
    }
    assert set(by_command) <= set(told) and told["lines"] == [] and told["lines_problem"]


MATRIX = """
import fabric
import torch

@fabric.task
def multiply(size):
    matrix = torch.rand(size, size)
    return float((matrix @ matrix).sum())
"""


def test_a_function_whose_flops_were_counted_has_a_roofline(fabric: Fabric) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    (fabric.state / "matrix.py").write_text(MATRIX, encoding="utf-8")
    calls = "import fabric, matrix; fabric.connect(); matrix.multiply.map([256] * 8)"
    env = fabric.env | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", calls], env=env, cwd=fabric.state, check=True, timeout=UNTIL_S)
    told = until(lambda: (seen := fabric.see("/v1/console/tasks/multiply"))["runs"] >= 8 and seen, "the task with its runs")
    assert (told["flops"], told["lines"]) == (None, []) and "fabric profile MODULE:FUNCTION" in told["lines_problem"]

    counted = json.loads(fabric.run("profile", "matrix:multiply", "--args", "[256]", "-o", "json"))
    assert counted["flops"] == 2 * 256**3 and "the fabric keeps what multiply computes" in counted["notes"][0]
    told = until(lambda: (seen := fabric.see("/v1/console/tasks/multiply"))["flops"] and seen, "its FLOPs")
    assert told["flops"] == counted["flops"] and told["lines_problem"] is None
    # All hardware of this fabric is stood in for: each flavor has its roof, and a point that is predicted.
    assert len(told["lines"]) >= 2 and not any(line["is_measured"] for line in told["lines"])
    assert json.loads(fabric.run("profile", "multiply", "-o", "json"))["flops"] == counted["flops"]


def test_a_job_that_has_ended_tells_its_ways_and_what_its_family_took(fabric: Fabric) -> None:
    for _ in range(2):
        status, made = fabric.ask("POST", "/v1/jobs", {"command": "true", "name": "twice"})
        assert status == 201
        job_id = made["ids"][0][0]
        until(lambda job_id=job_id: fabric.see(f"/v1/jobs/{job_id}")["state"] == "SUCCEEDED", "the job's end")
    told = until(lambda: (seen := fabric.see(f"/v1/jobs/{job_id}/explain")) and seen["ways"][0]["measured"] and seen, "the family")
    first = told["ways"][0]
    assert first["flavor"] == told["job"]["flavor"] and first["run_s"] > 0 and first["measured"]["runs"] >= 1


def test_a_node_is_cordoned_through_the_consoles_address(fabric: Fabric) -> None:
    node = until(lambda: fabric.see("/v1/console/nodes?tier=warm")["nodes"], "the warm node")[0]["node_id"]
    assert [fabric.ask("POST", f"/v1/nodes/{node[:8]}/cordon")[1]["changed"] for _ in range(2)] == [True, False]
    until(lambda: fabric.see("/v1/console/nodes?health=cordoned")["total"] == 1, "the cordon")
    (warm,) = fabric.see("/v1/console/overview")["tiers"][1]["flavors"]
    assert (warm["ready"], warm["broken"], warm["idle"]) == (0, 1.0, 0.0)
    reader, _ = fabric.ask(
        "POST", f"/v1/nodes/{node}/uncordon", token=fabric.run("console", "--no-open", "--scope", "read").partition("=")[2].strip()
    )
    assert reader == 403
    assert fabric.ask("POST", f"/v1/nodes/{node}/uncordon")[1]["health"] == "ready"
    head = fabric.see("/v1/console/nodes?tier=cold")["nodes"][0]
    status, refused = fabric.ask("POST", f"/v1/nodes/{head['node_id']}/drain")
    assert (status, refused["code"]) == (409, "head_node")


def test_after_kill_9_of_scheduler_and_console_the_page_is_answered_again(fabric: Fabric) -> None:
    fabric.ask("POST", "/v1/jobs", {"command": "sleep 300", "name": "long"})
    until(lambda: fabric.see("/v1/console/jobs?text=long")["jobs"][0]["state"] == "RUNNING", "the long job")
    scheduler, console = fabric.written("api.json"), fabric.written("console.json")
    os.kill(scheduler["pid"], signal.SIGKILL)
    assert fabric.see("/v1/console/jobs?text=long")["total"] == 1, "the console needs no scheduler for what it knows"
    until(lambda: fabric.written("api.json")["pid"] != scheduler["pid"], "another scheduler")
    until(lambda: fabric.ask("GET", "/v1/jobs/long")[0] == 200, "the API through the console")

    os.kill(console["pid"], signal.SIGKILL)
    back = until(lambda: (now := fabric.written("console.json"))["pid"] != console["pid"] and now, "another console")
    assert back["url"] == console["url"], "pages that are open find it where it was"
    until(lambda: fabric.see("/v1/console/overview")["jobs"].get("RUNNING") == 1, "the overview")
    page = Listener(fabric)
    until(lambda: page.of("hello"), "the event hello")
    assert any(bar[6] == "long" and bar[8] == "running" for bar in fabric.see("/v1/console/timeline")["bars"])
    assert fabric.ask("POST", "/v1/jobs/long/cancel")[0] == 200
    until(lambda: fabric.see("/v1/console/jobs?text=long")["jobs"][0]["state"] == "CANCELLED", "the end of the long job")
