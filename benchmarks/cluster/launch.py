"""How long a cluster takes to stand: `fabric up` beside plain `ray up`, the same three machines, the packages present.

A head and two workers of different tiers in network namespaces, each round once by each command. What counts is the time from the command
until every node has joined with its labels, asked of the head twice a second in the same way for both. Plain `ray up` is Ray's own: its
`local` provider with a labels file on each machine and autoscaler v1, since with v2 it starts one worker too few (ray-project/ray#59905).

    launch_ratio    the median of fabric_up_s over that of ray_up_s
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import median, options, report
from tests.cluster_files import ENVIRONMENT, cluster, write
from tests.laptop import Laptop
from tests.machines import Machine, World

GIVE_UP_S = 300.0
ASK_S = 0.5
PROBE = """
import sys
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_status
status = get_cluster_status(sys.argv[1], timeout=2)
print(sorted((node.labels or {}).get("tier", "-") for node in (*status.active_nodes, *status.idle_nodes)))
"""


def main() -> None:
    asked = options(__doc__ or "", rounds=3)
    ours, rays = [], []
    for _ in range(asked.rounds):
        rays.append(one(_ray_up, ["-", "hot", "warm"]))
        ours.append(one(_fabric_up, ["cold", "hot", "warm"]))
    figures = {
        "launch_ratio": median(ours) / median(rays),
        "fabric_up_s": median(ours),
        "ray_up_s": median(rays),
        "rounds": len(ours),
        "all_fabric_up_s": [round(value, 1) for value in ours],
        "all_ray_up_s": [round(value, 1) for value in rays],
    }
    report(figures, {"launch_ratio": "<= 0.6"}, as_json=asked.json)


def one(up: Callable[[World, Laptop], tuple[list[str], list[str]]], tiers: list[str]) -> float:
    with World(3) as world, tempfile.TemporaryDirectory() as home:
        laptop = Laptop(Path(home))
        command, down = up(world, laptop)
        started_s = time.monotonic()
        process = laptop.start(*command)
        try:
            return _await_joined(world.machines[0], tiers, started_s)
        finally:
            process.communicate(timeout=GIVE_UP_S)
            laptop.run(*down, timeout_s=GIVE_UP_S)


def _await_joined(head: Machine, tiers: list[str], started_s: float) -> float:
    """One probe that stays: importing Ray twice a second would be most of the load."""
    script = head.home / "probe.py"
    script.write_text(PROBE.replace("status = ", "import time\nwhile True:\n  try:\n   status = ", 1).replace("\nprint(", "\n   print(") +
                      "   sys.stdout.flush()\n  except Exception:\n   pass\n  time.sleep(0.5)\n")  # fmt: skip
    token = f"RAY_AUTH_TOKEN_PATH=$(ls {head.home}/.tierfabric/node/auth_token {head.home}/.ray/auth_token 2>/dev/null | head -1)"
    while not (head.home / ".ray" / "auth_token").exists():
        assert time.monotonic() - started_s < GIVE_UP_S, "no token ever came"
        time.sleep(0.1)
    probe = subprocess.Popen(
        head.enter(f"{token} exec {ENVIRONMENT}/bin/python {script} {head.address}:6379"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert probe.stdout is not None
        for line in probe.stdout:
            if line.strip() == str(tiers):
                return time.monotonic() - started_s
            assert time.monotonic() - started_s < GIVE_UP_S, f"only these joined: {line}"
    finally:
        head.kill("probe.py")
        probe.kill()
    raise AssertionError("the probe ended")


def _fabric_up(world: World, laptop: Laptop) -> tuple[list[str], list[str]]:
    _, hot, warm = world.machines
    path = str(write(world.root / "lab.yaml", cluster(world, {"hot": [hot], "warm": [warm]})))
    return ["fabric", "up", path], ["fabric", "down", path, "--yes"]


def _ray_up(world: World, laptop: Laptop) -> tuple[list[str], list[str]]:
    head, hot, warm = world.machines
    for machine, tier in ((hot, "hot"), (warm, "warm")):
        (machine.home / "labels.yaml").write_text(f"tier: {tier}\n")
    token = laptop.home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("ab" * 32)
    token.chmod(0o600)
    ray = f"export RAY_AUTH_MODE=token; . {ENVIRONMENT}/bin/activate; ray stop"
    config: dict[str, Any] = {
        "cluster_name": "plain",
        "provider": {"type": "local", "head_ip": head.address, "worker_ips": [hot.address, warm.address]},
        "auth": {"ssh_user": "root", "ssh_private_key": str(world.key)},
        "file_mounts": {"~/.ray/auth_token": str(token)},
        "head_start_ray_commands": [
            f"{ray}; ray start --head --port=6379 --disable-usage-stats --autoscaling-config=~/ray_bootstrap_config.yaml"
        ],
        "worker_start_ray_commands": [
            f"{ray}; ray start --address=$RAY_HEAD_IP:6379 --disable-usage-stats --labels-file=$HOME/labels.yaml"
        ],
    }
    path = str(write(world.root / "plain.yaml", config))
    up = ["env", "RAY_UP_enable_autoscaler_v2=0", "ray", "up", path, "--yes"]
    return up, ["ray", "down", path, "--yes"]


if __name__ == "__main__":
    main()
