"""A twin with two nodes of one flavor, one of which is slow: named, and cordoned by the policy; what work used, in dollars."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_cli_twin import Shell

FABRIC = """
tiers: [{name: hot}, {name: cold}]
twin: {hot: {flavor: cpu, cpus: 2}, cold: {flavor: cpu, cpus: 2}}
dashboard: {enabled: false}
"""
POLICY = """
apiVersion: scheduling.example.com/v1
kind: HybridPolicy
metadata: {name: close-slow-nodes}
spec: {stragglers: cordon, slowerThan: 1.5}
"""
LOAD = """
import pathlib, sys, time
import fabric, ray

SLOW = sys.argv[1]

def work(_):
    time.sleep(0.09 if ray.get_runtime_context().get_node_id() == SLOW else 0.03)

fabric.connect()
first, second = (fabric.task(name=name, memory=2**30)(work) for name in ("first", "second"))
while not pathlib.Path("stop").exists():
    for each in (first, second):
        list(each.map(range(40)))
"""
SPIN = "import time\nwhile time.process_time() < 2: pass"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("slow"))
    made.env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), made.env.get("PYTHONPATH", ""))))
    (made.cwd / "fabric.yaml").write_text(FABRIC, encoding="utf-8")
    made("up", "--no-dashboard")
    yield made
    made("down")


def until(read: Callable[[], Any], timeout_s: float) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while not (answer := read()):
        assert time.monotonic() < deadline_s, f"nothing came in {timeout_s} s"
        time.sleep(2.0)
    return answer


def test_a_slow_node_is_named_and_the_policy_closes_it(shell: Shell) -> None:
    nodes = {node["tier"]: node["node_id"] for tier in shell.json("status")["tiers"] for node in tier["nodes"]}
    script = shell.cwd / "load.py"
    script.write_text(LOAD, encoding="utf-8")
    load = subprocess.Popen([sys.executable, script, nodes["hot"]], stdout=subprocess.DEVNULL, env=shell.env, cwd=shell.cwd)
    try:
        (slow,) = until(lambda: shell.json("status")["stragglers"], 90.0)
        assert (slow["node_id"], slow["flavor"], slow["tasks"]) == (nodes["hot"], "cpu", 2)
        assert 2.0 < slow["factor"] < 4.0 and slow["runs"] >= 16
        assert f"node {nodes['hot'][:8]} (" in shell("status").stdout and "slower than its like on cpu (" in shell("status").stdout
        (shell.cwd / "policy.yaml").write_text(POLICY, encoding="utf-8")
        shell("policy", "apply", "policy.yaml")
        health = until(lambda: closed(shell), 60.0)
        assert health == {nodes["hot"]: "cordoned", nodes["cold"]: "ready"}, "never the last of its flavor"
    finally:
        (shell.cwd / "stop").touch()
        try:
            load.wait(60)
        finally:
            load.kill()


def closed(shell: Shell) -> dict[str, str]:
    """The health of all nodes, once one is not ready."""
    health = {node["node_id"]: node["health"] for tier in shell.json("status")["tiers"] for node in tier["nodes"]}
    return health if set(health.values()) != {"ready"} else {}


def test_what_a_job_and_tasks_asked_for_is_set_against_what_they_used(shell: Shell) -> None:
    shell("submit", "--cpus", "2", "--memory", "1GB", "--name", "spin", "--", sys.executable, "-c", SPIN)
    try:
        shell("logs", "-f", "spin")
    except subprocess.TimeoutExpired:
        pytest.fail(f"the job does not end:\n{shell('explain', 'spin').stdout}\n{shell('status').stdout}")
    form = shell.json("efficiency", "spin")
    assert form["cpus_asked"] == pytest.approx(2.0) and form["cpus_used"] * form["wall_s"] == pytest.approx(2.0, rel=0.2)
    assert form["cpu_frac"] < 0.55, "it can use one of its two"
    assert 0 < form["memory_peak_bytes"] < 200 * 2**20 and form["wasted_usd"] > 0
    assert "hint: asks for 2 CPUs, uses " in shell("efficiency", "spin").stdout
    tasks = shell.json("efficiency", "--tasks")
    assert tasks["problem"] is None and {row["name"] for row in tasks["rows"]} == {"first", "second"}
    assert all(row["cpu_frac"] < 0.5 and row["memory_frac"] < 1.0 and row["wasted_usd"] > 0 for row in tasks["rows"])
    (by_user,) = shell.json("efficiency")["rows"]
    assert by_user["jobs"] == 1 and by_user["runs"] == sum(row["runs"] for row in tasks["rows"])
