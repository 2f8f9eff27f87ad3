"""Each fault of a machine is found, and names its cure; a machine in good order passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fabric.doctor.check import Check
from fabric.machines.checks import INSTALL_DISK_BYTES, LEAST_DISK_BYTES, Wanted, check_machine, is_running
from fabric.machines.spec import Ports
from pools.flavors import load_catalogue
from tests.labs import GIB, facts

CATALOGUE = load_catalogue()


def wanted(**changes: Any) -> Wanted:
    plain: dict[str, Any] = {
        "cluster": "lab",
        "kind": "worker",
        "node_type": "hot",
        "labels": {"tier": "hot", "flavor": "a100-80g"},
        "resources": {"CPU": 8, "GPU": 1},
        "ports": Ports().of("worker"),
        "environment": None,
        "python": "python3.11",
        "python_version": "3.11.7",
        "ray": "2.60.0",
        "tierfabric": "0.1.0",
        "release": "abc",
    }
    return Wanted(**{**plain, **changes})


def checks(values: Mapping[str, object] | None = None, want: Wanted | None = None, **others: Any) -> dict[str, Check]:
    found = check_machine("10.0.0.2 (hot)", facts(values, **others), want or wanted(), CATALOGUE)
    assert all(check.where == "10.0.0.2 (hot)" for check in found) and len({check.name for check in found}) == len(found)
    assert all(bool(check.cure) == (check.state != "ok") for check in found), found
    return {check.name: check for check in found}


def test_a_machine_in_good_order_passes_every_check() -> None:
    found = checks()
    assert {check.state for check in found.values()} == {"ok"}
    assert list(found) == ["ssh", "python", "ports", "disk", "/dev/shm", "clock", "ulimit -n", "driver"]


ENVIRONMENT = {"ray": "2.60.0", "tierfabric": "0.1.0"}
THERE = wanted(environment="/opt/env")


@pytest.mark.parametrize(
    ("values", "want", "name", "state", "in_detail", "in_cure"),
    [
        # Python
        ({"python": None}, wanted(), "python", "fail", "python3.11 is not installed", "apt install python3.11 python3.11-venv"),
        ({"python": None, "other_python": "Python 3.12.3"}, wanted(), "python", "fail", "(it has Python 3.12.3)", "provider.python"),
        ({"python": None}, THERE, "python", "fail", "/opt/env/bin/python is not there", "leave provider.environment out"),
        ({"python": "3.12.3"}, wanted(), "python", "fail", "3.12.3, but 3.11 is needed", "install Python 3.11"),
        ({"python": "3.12.3"}, THERE, "python", "fail", "3.12.3, but 3.11 is needed", "install Python 3.11"),
        ({"python": "3.11.2"}, wanted(), "python", "ok", "3.11.2", ""),
        ({"has_venv": None}, wanted(), "python", "fail", "without venv", "apt install python3.11-venv"),
        ({"has_venv": None, **ENVIRONMENT}, THERE, "python", "ok", "3.11.9", ""),
        # what an environment holds
        (ENVIRONMENT, THERE, "ray", "ok", "2.60.0", ""),
        ({**ENVIRONMENT, "ray": "2.59.1"}, THERE, "ray", "fail", "2.59.1, but 2.60.0", "/opt/env/bin/pip install ray==2.60.0"),
        ({**ENVIRONMENT, "ray": None}, THERE, "ray", "fail", "not installed, but 2.60.0", "pip install ray==2.60.0"),
        ({**ENVIRONMENT, "tierfabric": "0.0.9"}, THERE, "tierfabric", "fail", "0.0.9, but 0.1.0", "pip install tierfabric==0.1.0"),
        # disk
        ({"is_home_writable": None}, wanted(), "disk", "fail", "/home/ann cannot be written", "chown /home/ann"),
        ({"is_home_writable": None, "home": None}, wanted(), "disk", "fail", "~ cannot be written", "make room there"),
        ({"home_free_bytes": 0, "is_home_writable": None}, wanted(), "disk", "fail", "(0 GiB free)", "make room there"),
        ({"home_free_bytes": INSTALL_DISK_BYTES - 1}, wanted(), "disk", "fail", "/home/ann: 4 GiB free, 4 GiB needed", "make room"),
        ({"home_free_bytes": INSTALL_DISK_BYTES}, wanted(), "disk", "ok", "4 GiB free", ""),
        ({"home_free_bytes": LEAST_DISK_BYTES, "release": "abc"}, wanted(), "disk", "ok", "1 GiB free", ""),
        ({"home_free_bytes": LEAST_DISK_BYTES, "release": "older"}, wanted(), "disk", "fail", "4 GiB needed", "make room"),
        ({"home_free_bytes": LEAST_DISK_BYTES, **ENVIRONMENT}, THERE, "disk", "ok", "1 GiB free", ""),
        ({"tmp_free_bytes": LEAST_DISK_BYTES - 1}, wanted(), "disk", "fail", "/tmp: ", "/tmp/ray"),
        ({"tmp_free_bytes": None}, wanted(), "disk", "ok", "", ""),
        # shared memory
        ({"shm_bytes": 64 * 2**20}, wanted(), "/dev/shm", "fail", "0.0625 GiB of 64 GiB", "--shm-size"),
        ({"shm_bytes": 8 * GIB}, wanted(), "/dev/shm", "warn", "8 GiB of 64 GiB", "remount"),
        ({"shm_bytes": 10 * GIB}, wanted(), "/dev/shm", "ok", "10 GiB", ""),
        ({"shm_bytes": None}, wanted(), "/dev/shm", "warn", "cannot be seen", "tmpfs"),
        ({"memory_bytes": None}, wanted(), "/dev/shm", "warn", "cannot be seen", "tmpfs"),
        # open files
        ({"files": "unlimited"}, wanted(), "ulimit -n", "ok", "unlimited", ""),
        ({"files": 4096}, wanted(), "ulimit -n", "ok", "4096", ""),
        ({"files": 1024}, wanted(), "ulimit -n", "warn", "1024 open files allowed", "limits.conf"),
        ({"files": 256}, wanted(), "ulimit -n", "fail", "256 open files allowed", "limits.conf"),
        # drivers
        ({"has_nvidia-smi": None}, wanted(), "driver", "fail", "no NVIDIA driver, but 1 GPU are declared", "install the driver"),
        ({"nvidia_cards": 0}, wanted(), "driver", "fail", "nvidia-smi lists 0 GPU, 1 are declared", "dmesg"),
        ({"nvidia_cards": 1}, wanted(resources={"GPU": 2}), "driver", "fail", "nvidia-smi lists 1 GPU, 2 are declared", "dmesg"),
        ({"nvidia_cards": 0, "nvidia_problem": "Failed to initialize NVML: Driver/library version mismatch"}, wanted(), "driver", "fail",
         "Driver/library version mismatch", "reboot"),
        ({"nvidia_cards": 8}, wanted(resources={"GPU": 8}), "driver", "ok", "8 GPU", ""),
        ({"nvidia_cards": 1}, wanted(resources={}), "driver", "ok", "1 GPU", ""),
    ],
)  # fmt: skip
def test_every_fault_is_found_and_names_its_cure(
    values: dict[str, object], want: Wanted, name: str, state: str, in_detail: str, in_cure: str
) -> None:
    found = checks(values, want)
    assert found[name].state == state and in_detail in found[name].detail and in_cure in found[name].cure
    others = {other.name: other.state for other in found.values() if other.name not in (name, "ray", "tierfabric")}
    assert set(others.values()) == {"ok"}, others


@pytest.mark.parametrize(
    ("skew_s", "state", "detail"), [(0.0, "ok", "right"), (1.0, "ok", "right"), (3.0, "warn", "3.0 s off"), (60.0, "fail", "60.0 s off")]
)
def test_a_clock_that_is_off_is_told(skew_s: float, state: str, detail: str) -> None:
    clock = checks(skew_s=skew_s)["clock"]
    assert (clock.state, clock.detail) == (state, detail) and ("timedatectl" in clock.cure) == (state != "ok")


@pytest.mark.parametrize(
    "want", [wanted(labels={"flavor": "cpu"}), wanted(labels={"flavor": "a100-80g", "twin-slowdown": "1"}), wanted(labels={})]
)
def test_who_has_no_card_or_only_stands_in_for_one_needs_no_driver(want: Wanted) -> None:
    assert "driver" not in checks({"has_nvidia-smi": None, "nvidia_cards": None}, want)


def test_without_an_environment_that_is_there_versions_are_not_asked_for() -> None:
    assert not {"ray", "tierfabric"} & set(checks({"ray": "1.0", "tierfabric": "9"}))
    assert not {"ray", "tierfabric"} & set(checks({"python": None}, THERE))


# -- ports and nodes -------------------------------------------------------------------------------------------------------


def test_ports_that_others_hold_are_named_with_what_needs_them() -> None:
    found = checks(taken=frozenset({22, 6381, 6385}))
    assert "ports" not in found and [name for name in found if name.startswith("port ")] == ["port 6381", "port 6385"]
    assert found["port 6381"].state == "fail" and "Ray's node manager" in found["port 6381"].detail
    assert "grep 6381" in found["port 6381"].cure and "provider.ports" in found["port 6381"].cure


def test_the_head_needs_more_ports_than_a_worker() -> None:
    assert "port 6379" in checks(None, wanted(kind="head", ports=Ports().of("head")), taken=frozenset({6379}))
    assert checks(taken=frozenset({6379, 8265}))["ports"].state == "ok"
    assert "port 7000" in checks(None, wanted(ports=Ports(metrics=7000).of("worker")), taken=frozenset({7000, 6385}))


def test_a_node_of_this_cluster_holds_its_ports_itself() -> None:
    node = {"cluster": "lab", "state": "up"}
    found = checks(taken=frozenset(Ports().of("worker")), node=node)
    assert (found["node"].state, found["node"].detail) == ("ok", "runs already (up)") and found["ports"].detail == "ours"
    assert is_running(facts(node=node), "lab") and not is_running(facts(node=node), "other") and not is_running(facts(), "lab")


def test_a_node_of_another_cluster_is_not_taken_away() -> None:
    node = checks(node={"cluster": "theirs", "state": "up"})["node"]
    assert node.state == "fail" and "'theirs'" in node.detail and "fabric down" in node.cure
    assert "node" not in checks()
