"""What goes wrong on machines that people own: is it named before the launch, and at the launch, with the right machine and cause?

Each fault is done to one worker of three machines in network namespaces (or to the launching machine's own files), then `fabric doctor` and
`fabric up` are run and read. A fault counts as named when one failure is told, on that machine alone, with its cause and a mend; at a
launch also the other machines must be up.

    doctor_named_frac    of those that are there before a launch
    launch_named_frac    of all, with a reboot in the middle and two launches at once
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import options, report
from tests.cluster_files import cluster, write
from tests.laptop import Laptop
from tests.machine_faults import FAULTS, Fault
from tests.machines import World


def main() -> None:
    asked = options(__doc__ or "", rounds=1)
    doctor: dict[str, bool] = {}
    launch: dict[str, bool] = {}
    with World(3) as world, tempfile.TemporaryDirectory() as home:
        for fault in FAULTS:
            doctor[fault.key], launch[fault.key] = one(world, Laptop(Path(home) / fault.key), fault)
        launch["reboot"], launch["two_launches"] = in_the_middle(world, Laptop(Path(home) / "middle"))
    figures = {
        "doctor_named_frac": sum(doctor.values()) / len(doctor),
        "launch_named_frac": sum(launch.values()) / len(launch),
        "faults": len(launch),
        "missed": sorted({key for found in (doctor, launch) for key, is_named in found.items() if not is_named}),
    }
    report(figures, {"doctor_named_frac": "1.0", "launch_named_frac": "1.0"}, as_json=asked.json)


def one(world: World, laptop: Laptop, fault: Fault) -> tuple[bool, bool]:
    head, hot, cold = world.machines
    config = cluster(world, {"hot": [hot], "cold": [cold]})
    undo = fault.spoil(world, hot, config, laptop.home)
    path = write(world.root / f"{fault.key}.yaml", config)
    try:
        told = laptop.run("fabric", "doctor", str(path), "-o", "json")
        up = laptop.run("fabric", "up", str(path))
    finally:
        undo()
        laptop.run("fabric", "down", str(write(world.root / "down.yaml", cluster(world, {"hot": [hot], "cold": [cold]}))), "--yes")
    if fault.where == "here":
        is_told = fault.says in told.stdout + told.stderr and fault.cure in told.stdout + told.stderr and told.returncode != 0
        return is_told, up.returncode != 0 and fault.says in up.stderr and fault.cure in up.stderr and "joined" not in up.stderr
    failing = [row for row in json.loads(told.stdout)["checks"] if row["state"] == "fail"]
    is_told = {row["where"] for row in failing} == {f"{hot.address} (hot)"} and _says(fault, failing)
    lines = [line for line in up.stderr.splitlines() if "FAILED" in line]
    after = "\n".join(up.stderr.splitlines())
    is_alone = len(lines) == 1 and lines[0].startswith(hot.address) and fault.says in lines[0] and fault.cure in after
    return is_told, is_alone and f"{cold.address}  cold  joined" in after and "head started" in after and head.address not in lines[0]


def _says(fault: Fault, rows: list[dict[str, Any]]) -> bool:
    return any(row["name"] == fault.name and fault.says in row["detail"] and fault.cure in row["cure"] for row in rows)


def in_the_middle(world: World, laptop: Laptop) -> tuple[bool, bool]:
    """A machine that goes down during its launch; and a second launch beside the first."""
    _, hot, cold = world.machines
    path = str(write(world.root / "middle.yaml", cluster(world, {"hot": [hot], "cold": [cold]})))
    up = laptop.start("fabric", "up", path)
    assert up.stderr is not None
    told = list(_until(iter(up.stderr), f"{hot.address}  hot   installed"))
    hot.power_off()
    second = laptop.run("fabric", "up", path)
    out, rest = up.communicate(timeout=200)
    lines = [line for line in "".join([*told, rest]).splitlines() if "FAILED" in line]
    causes = ("ssh_lost", "unreachable", "no_ssh", "timed_out")
    is_named = len(lines) == 1 and lines[0].startswith(hot.address) and any(cause in lines[0] for cause in causes) and "2 of 3" in out
    hot.boot()
    laptop.run("fabric", "down", path, "--yes")
    return is_named, second.returncode != 0 and "launch_running" in second.stderr


def _until(lines: Iterator[str], start: str) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith(start):
            return


if __name__ == "__main__":
    main()
