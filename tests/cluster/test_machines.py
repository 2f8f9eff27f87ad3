"""Clusters on machines that one owns: a head and workers of different tiers, in network namespaces with an SSH server each."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_files import cluster, write
from tests.laptop import Laptop
from tests.machine_faults import FAULTS, Fault, certificates
from tests.machines import Machine, World, until, why_not

pytestmark = [pytest.mark.skipif(why_not() is not None, reason=str(why_not())), pytest.mark.timeout(420)]

ON_FLAVOR = """
import fabric, ray, socket
@fabric.task(name="where", flavor="a100-80g", num_gpus=1)
def where():
    return socket.gethostname()
fabric.connect()
print(ray.get(where.remote(), timeout=100))
"""


PLAIN = """
import sys, grpc
from fabric import auth
for channel in (grpc.insecure_channel(sys.argv[1]), auth.head_channel(sys.argv[1])):
    try:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
        print({b"\\x08\\x01": "SERVING"}.get(answer, answer))
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(3) as made:
        yield made


@pytest.fixture
def laptop(world: World, request: pytest.FixtureRequest) -> Iterator[Laptop]:
    yield Laptop(world.root / f"laptop-{request.node.name[:40]}")


@pytest.fixture
def lab(world: World, laptop: Laptop) -> Iterator[dict[str, Any]]:
    """A file of a head, a hot and a cold machine; what it started is ended."""
    _, hot, cold = world.machines
    yield cluster(world, {"hot": [hot], "cold": [cold]})
    laptop.run("fabric", "down", str(world.root / "lab.yaml"), "--yes")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.key)
def test_doctor_names_what_would_fail(world: World, laptop: Laptop, fault: Fault) -> None:
    head, hot, cold = world.machines
    config = cluster(world, {"hot": [hot], "cold": [cold]})
    undo = fault.spoil(world, hot, config, laptop.home)
    try:
        told = laptop.run("fabric", "doctor", str(write(world.root / "faulty.yaml", config)), "-o", "json")
    finally:
        undo()
    if fault.key == "unknown_key":
        assert told.returncode == 2 and fault.says in told.stderr and fault.cure in told.stderr
        return
    assert told.returncode == 1
    rows = [row for row in json.loads(told.stdout)["checks"] if row["state"] == "fail"]
    row = next(row for row in rows if row["name"] == fault.name)
    assert fault.says in row["detail"] and fault.cure in row["cure"]
    assert row["where"] == ("this machine" if fault.where == "here" else f"{hot.address} (hot)")
    assert {row["where"] for row in rows} == {row["where"]}, "nothing else is blamed"
    assert head.address not in str(rows) and cold.address not in str(rows)


def test_launch_runs_drains_and_ends(world: World, laptop: Laptop, lab: dict[str, Any]) -> None:
    """All join, again changes nothing; strangers stay out; work that asks for a tier starts it, and it goes after its idle time; a killed
    worker comes back; the end leaves nothing."""
    head, _, cold = world.machines
    lab["available_node_types"]["hot"]["min_workers"] = 0
    path = write(world.root / "lab.yaml", lab)

    up = laptop.run("fabric", "up", str(path))
    assert up.returncode == 0, up.stderr
    assert {line.split()[0] for line in up.stderr.splitlines()[1:]} == {head.address, cold.address}
    assert _nodes(head) == {"tf0": "cold", "tf2": "cold"}
    token = laptop.home / ".tierfabric" / "clusters" / "lab" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600

    again = laptop.run("fabric", "up", str(path))
    assert again.returncode == 0 and "head runs already" in again.stderr and "joined" not in again.stderr

    told = laptop.run("fabric", "doctor", str(path), "-o", "json")
    rows = json.loads(told.stdout)["checks"]
    assert not [row for row in rows if row["state"] == "fail"]
    assert len([row for row in rows if row["name"].startswith("door ")]) == 13 + 8
    assert len([row for row in rows if row["name"] == "browser" and row["state"] == "ok"]) == 4

    assert _asleep(head) == {"a100-80g": 1}
    assert _task_on_a100(head) == "tf1", "a task starts the machine that it needs"
    until(lambda: "tf1" not in _nodes(head), "the idle hot node is gone")
    assert _asleep(head) == {"a100-80g": 1}
    planned = json.loads(head.run("~/.tierfabric/run fabric plan --gpus a100-80g:1 -o json -- hostname", timeout_s=90))
    (way,) = planned["ways"]
    assert way["verdict"] == "Fit" and way["wait_s"] > 10 and "started first" in way["detail"]
    said = head.run("~/.tierfabric/run fabric submit --gpus a100-80g:1 --follow -- hostname", timeout_s=150)
    assert "tf1" in said.splitlines(), "so does a job"

    before = _node_ids(head)["tf2"]
    assert cold.kill("raylet")
    until(lambda: _node_ids(head).get("tf2", before) != before, "the killed worker is back")

    down = laptop.run("fabric", "down", str(path), "--yes")
    assert down.returncode == 0, down.stderr
    for machine in world.machines:
        assert machine.run("pgrep -fc '[r]aylet|[g]cs_server|[w]atchdog' || true").strip() == "0"


def test_one_that_fails_is_named_and_the_others_come_up(world: World, laptop: Laptop, lab: dict[str, Any]) -> None:
    """A machine goes down in the middle of a launch; when it is back, the cluster takes it in by itself."""
    head, hot, _ = world.machines
    path = write(world.root / "lab.yaml", lab)
    up = laptop.start("fabric", "up", str(path))
    lines = _read_until(up, lambda line: line.startswith(hot.address) and "installed" in line)
    hot.power_off()
    second = laptop.run("fabric", "up", str(path))
    assert second.returncode == 3 and "launch_running" in second.stderr, "two launches at once: the second is refused"
    out, rest = up.communicate(timeout=150)
    told = [*lines, *rest.splitlines()]
    failed = [line for line in told if "FAILED" in line]
    assert (
        len(failed) == 1 and failed[0].startswith(hot.address) and any(code in failed[0] for code in ("ssh_lost", "unreachable", "no_ssh"))
    )
    assert up.returncode == 1 and f"{hot.address} is not" in out and "2 of 3 machines are up" in out
    assert _nodes(head) == {"tf0": "cold", "tf2": "cold"}

    hot.boot()
    until(lambda: _nodes(head) == {"tf0": "cold", "tf1": "hot", "tf2": "cold"}, "the machine that came back is taken in")


def test_ray_up_starts_all_of_it(world: World, laptop: Laptop, lab: dict[str, Any]) -> None:
    """The same file with Ray's own commands: as many workers as it says, with labels and the cluster's token."""
    head = world.machines[0]
    path = write(world.root / "lab.yaml", lab)
    up = laptop.run("ray", "up", str(path), "--yes", timeout_s=200)
    assert up.returncode == 0, up.stdout + up.stderr
    until(lambda: _nodes(head) == {"tf0": "cold", "tf1": "hot", "tf2": "cold"}, "all have joined")
    down = laptop.run("ray", "down", str(path), "--yes", timeout_s=200)
    assert down.returncode == 0, down.stdout + down.stderr
    for machine in world.machines:
        assert machine.run("pgrep -fc '[r]aylet|[g]cs_server|[w]atchdog' || true").strip() == "0"


def test_with_certificates_nobody_is_answered_without_them(world: World, laptop: Laptop, lab: dict[str, Any]) -> None:
    """A self-signed one for all machines: they join, jobs run on both, and a plain connection learns nothing."""
    head = world.machines[0]
    now = datetime.datetime.now(datetime.UTC)
    valid = (now - datetime.timedelta(days=1), now + datetime.timedelta(days=30))
    lab["provider"]["tls"] = certificates(laptop.home / "tls", *valid, tuple(machine.address for machine in world.machines))
    lab["available_node_types"].pop("hot")
    path = write(world.root / "lab.yaml", lab)
    up = laptop.run("fabric", "up", str(path))
    assert up.returncode == 0, up.stderr
    assert _nodes(head) == {"tf0": "cold", "tf2": "cold"}
    said = head.run("~/.tierfabric/run fabric submit --cpus 2 --follow -- hostname", timeout_s=90)
    assert "tf2" in said.splitlines(), "only the worker has two CPUs"
    told = json.loads(laptop.run("fabric", "doctor", str(path), "-o", "json").stdout)["checks"]
    assert not [row for row in told if row["state"] == "fail"]
    (head.home / "plain.py").write_text(PLAIN)
    assert head.run(f"~/.tierfabric/run python plain.py {head.address}:6379", timeout_s=60).split() == ["UNAVAILABLE", "SERVING"]


def _nodes(head: Machine) -> dict[str, str]:
    """Host -> tier of the nodes that the fabric counts on."""
    return {node["host"]: node["tier"] for node in head.fabric_nodes()}


def _node_ids(head: Machine) -> dict[str, str]:
    return {node["host"]: node["node_id"] for node in head.fabric_nodes()}


def _asleep(head: Machine) -> dict[str, int]:
    """Flavor -> nodes that work would start."""
    return {flavor: num for tier in head.fabric_status()["tiers"] for flavor, num in tier["asleep"].items()}


def _task_on_a100(head: Machine) -> str:
    script = Path(head.home) / "where.py"
    script.write_text(ON_FLAVOR)
    return head.run("~/.tierfabric/run python where.py", timeout_s=150).strip().splitlines()[-1]


def _read_until(process: Any, is_it: Callable[[str], bool]) -> list[str]:
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if is_it(line):
            return lines
    raise AssertionError(f"it never came: {lines}")
