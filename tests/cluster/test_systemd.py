"""A machine with systemd: it keeps the watchdog, and brings the node back after a reboot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster_files import cluster, write
from tests.laptop import Laptop
from tests.machines import Machine, World, until
from tests.systemd_machine import SystemdMachine, why_no_systemd

pytestmark = [pytest.mark.skipif(why_no_systemd() is not None, reason=str(why_no_systemd())), pytest.mark.timeout(420)]

UNIT = "tierfabric-node.service"


@pytest.fixture
def world() -> Iterator[World]:
    with World(1, SystemdMachine) as made:
        yield made


def test_the_unit_outlives_a_kill_and_a_reboot_and_ends_with_the_cluster(world: World) -> None:
    (head,) = world.machines
    laptop = Laptop(world.root / "laptop")
    path = write(world.root / "lab.yaml", cluster(world, {}))
    up = laptop.run("fabric", "up", str(path))
    assert up.returncode == 0, up.stderr
    assert _unit(head) == {"ActiveState": "active", "UnitFileState": "enabled"}
    first = _main_pid(head)

    head.run(f"kill -9 {first}")
    until(lambda: _up_again(head, 1) and _main_pid(head) not in (0, first), "the watchdog and its node are back")
    assert head.run("pgrep -fc '[r]aylet/raylet'").strip() == "1", "what the first one had started is gone"

    head.power_off()
    head.boot()
    until(lambda: _up_again(head, 2), "the node is back after the reboot")
    until(lambda: [node["host"] for node in head.fabric_nodes()] == ["tf0"], "and the fabric with it")
    said = head.run("~/.tierfabric/run fabric submit --cpus 1 --follow -- echo it works", timeout_s=120)
    assert "it works" in said.splitlines()

    down = laptop.run("fabric", "down", str(path), "--yes")
    assert down.returncode == 0, down.stderr
    assert _unit(head) == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert head.run("pgrep -fc '[r]aylet|[g]cs_server|[w]atchdog' || true").strip() == "0"


def _unit(machine: Machine) -> dict[str, str]:
    told = machine.run(f"systemctl show {UNIT} -p ActiveState,UnitFileState")
    return dict(line.split("=", 1) for line in told.split())


def _main_pid(machine: Machine) -> int:
    return int(machine.run(f"systemctl show {UNIT} -p MainPID --value"))


def _up_again(machine: Machine, restarts: int) -> bool:
    status: dict[str, Any] = json.loads((machine.home / ".tierfabric" / "node" / "status.json").read_text())
    return (status["state"], status["restarts"]) == ("up", restarts)
