"""Killing parts of a running fabric in the middle of a `map` of 1,000 calls: nothing lost, nothing run twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import json, os, pathlib, sys, threading, time
import fabric
from fabric import ray_io
import psutil, ray

log = pathlib.Path(sys.argv[1])

@fabric.task
def work(i):
    with open(log / f"{os.getpid()}.log", "a") as out:
        out.write(f"{i}\\n")
    time.sleep(0.01)
    return i, ray.get_runtime_context().get_node_id()

@work.variant(flavor="gpu", num_gpus=1)
@work.variant(flavor="npu")
def work_accelerated(i):
    with open(log / f"{os.getpid()}.log", "a") as out:
        out.write(f"{i}\\n")
    time.sleep(0.01)
    return i, ray.get_runtime_context().get_node_id()

client = fabric.connect()
ACTORS = ["profiler", *(f"pool-{t}" for t in client.config.tier_names), "agent-" + ray.nodes()[0]["NodeManagerHostname"]]

def until(read, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if answer := read():
                return answer
        except Exception:
            pass
        time.sleep(0.1)
    raise SystemExit("waited in vain")

def ping(name):
    actor = ray.get_actor(name, namespace="fabric")
    return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=5)

def in_the_middle(do):
    def later():
        until(lambda: sum(1 for f in log.glob("*.log") for _ in f.open()) > 200)
        do()
    thread = threading.Thread(target=later)
    thread.start()
    return thread

def tell(answer):
    (log.parent / "answer.json").write_text(json.dumps(answer))

until(lambda: all(ping(name) for name in ACTORS))
"""


def run(tmp_path: Path, script: str, timeout_s: float = 150) -> dict[str, Any]:
    """Run a driver with a twin of its own; returns what it told and how often each call began."""
    log = tmp_path / "log"
    log.mkdir()
    file = tmp_path / "driver.py"
    file.write_text(PRELUDE + textwrap.dedent(script))
    env = {**os.environ, "FABRIC_STATE_DIR": str(tmp_path / "state"), "FABRIC_DASHBOARD__ENABLED": "false"}
    env.pop("FABRIC_ADDRESS", None)
    done = subprocess.run([sys.executable, str(file), str(log)], env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    answer = json.loads((tmp_path / "answer.json").read_text())
    answer["begun"] = Counter(int(line) for part in log.glob("*.log") for line in part.read_text().split())
    return answer


@pytest.mark.timeout(200)
def test_killing_every_fabric_actor_in_a_map_loses_nothing_and_they_come_back_with_their_state(tmp_path: Path) -> None:
    answer = run(
        tmp_path,
        """
        pool = ray.get_actor("pool-warm", namespace="fabric")
        node = ray.get(pool.snapshot.remote()).nodes[0].node_id
        ray.get(pool.cordon.remote(node, "tester"))
        pids = {name: ping(name) for name in ACTORS}

        def kill():
            for number, name in enumerate(ACTORS):
                if number % 2:
                    os.kill(pids[name], 9)
                else:
                    ray.kill(ray.get_actor(name, namespace="fabric"), no_restart=True)

        thread = in_the_middle(kill)
        results = work.map(range(1000))
        thread.join()
        back = until(lambda: all(ping(name) != pids[name] for name in ACTORS))
        health = until(lambda: [n.health for n in ray.get(ray.get_actor("pool-warm", namespace="fabric").snapshot.remote()).nodes])
        profiles = ray.get(ray.get_actor("profiler", namespace="fabric").profiles.remote())
        runs = sum(m.num_runs for p in profiles for m in p.measured.values())
        tell({"order": [i for i, _ in results] == list(range(1000)), "health": health, "runs": runs})
        """,
    )
    assert answer["order"]
    assert set(answer["begun"].values()) == {1}
    assert answer["health"] == ["cordoned"]
    assert answer["runs"] > 0


@pytest.mark.timeout(200)
def test_killing_a_node_in_a_map_reruns_only_what_ran_there(tmp_path: Path) -> None:
    answer = run(
        tmp_path,
        """
        hot = next(n for n in ray.nodes() if n["Labels"].get("tier") == "hot")
        raylet = next(p for p in psutil.process_iter() if "raylet" in p.name() and hot["RayletSocketName"] in " ".join(p.cmdline()))

        def kill():
            for child in raylet.children(recursive=True):
                child.kill()
            raylet.kill()

        thread = in_the_middle(kill)
        results = work.map(range(1000))
        thread.join()
        gone = until(lambda: client.is_lost("a100-80g"))
        again = ray.get(work.remote(1))[0]
        tell({"order": [i for i, _ in results] == list(range(1000)), "gone": gone, "again": again, "hot": hot["NodeID"]})
        """,
    )
    assert answer["order"]
    assert answer["gone"]
    assert answer["again"] == 1
    assert sum(answer["begun"].values()) <= 1000 + 1 + 2


@pytest.mark.timeout(200)
def test_actors_that_ray_takes_for_alive_on_a_node_that_is_gone_are_made_anew(tmp_path: Path) -> None:
    """Ray is asked for real; only its list of nodes is cut short, as it is after a head was lost in a bad moment."""
    answer = run(
        tmp_path,
        """
        from fabric import launch, stranded

        until(lambda: ray.get(ray.get_actor("scheduler", namespace="fabric").ping.remote(), timeout=5))
        pids = {name: ping(name) for name in [*ACTORS, "scheduler"]}
        before = launch.free_stranded(client.config, client.catalogue)
        whole = stranded.living_nodes
        stranded.living_nodes = lambda rows: set()
        freed = launch.free_stranded(client.config, client.catalogue)
        stranded.living_nodes = whole
        until(lambda: all(ping(name) != pids[name] for name in pids))
        job = fabric.submit("true", cpus=0.1)
        tell({"before": before, "missing": sorted(set(pids) - set(freed)), "job": str(until(lambda: job.wait(timeout_s=30)))})
        """,
    )
    assert answer["before"] == [] and answer["missing"] == []
    assert answer["job"] == "SUCCEEDED"
