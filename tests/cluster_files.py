"""Cluster files for test machines: a head and workers of different tiers, whose hardware is only said to be there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.machines import Machine, World

ENVIRONMENT = str(Path(sys.executable).parent.parent)
TIERS = {"hot": ("a100-80g", {"CPU": 1, "GPU": 1}), "warm": ("t4", {"CPU": 1, "GPU": 1}), "cold": ("cpu", {"CPU": 2})}
EMPTY = ("file_mounts", "auth")
LISTS = ("cluster_synced_files", "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
         "head_start_ray_commands", "worker_start_ray_commands")  # fmt: skip


def cluster(
    world: World,
    workers: dict[str, list[Machine]],
    *,
    name: str = "lab",
    least: dict[str, int] | None = None,
    settings: dict[str, Any] | None = None,
    **provider: Any,
) -> dict[str, Any]:
    """The first machine is the head; `least`: min_workers of a tier, otherwise all of its machines. `settings`: of fabric.yaml."""
    head = world.machines[0]
    kinds: dict[str, Any] = {
        "head": {"node_config": {"machines": [head.address]}, "resources": {"CPU": 1}, "min_workers": 0, "max_workers": 0,
                 "labels": {"tier": "cold", "flavor": "cpu", "twin-slowdown": "1"}},
    }  # fmt: skip
    for tier, machines in workers.items():
        flavor, resources = TIERS[tier]
        kinds[tier] = {
            "node_config": {"machines": [machine.address for machine in machines]},
            "resources": resources,
            "labels": {"tier": tier, "flavor": flavor, "twin-slowdown": "1"},
            "min_workers": (least or {}).get(tier, len(machines)),
            "max_workers": len(machines),
            "idle_timeout_s": 20,
        }
    return {
        "cluster_name": name,
        "provider": {"type": "external", "module": "pools.node_provider.MachinesProvider", "environment": ENVIRONMENT,
                     "env": {"RAY_object_store_memory": "100000000"}, **provider},
        "auth": {"ssh_user": "root", "ssh_private_key": str(world.key)},
        "available_node_types": kinds,
        "head_node_type": "head",
        "max_workers": sum(len(machines) for machines in workers.values()),
        "idle_timeout_minutes": 5,
        "metadata": {"fabric": settings or {}},
        **{key: {} for key in EMPTY if key != "auth"},
        **{key: [] for key in LISTS},
    }  # fmt: skip


def write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
