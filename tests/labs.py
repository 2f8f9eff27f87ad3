"""A small laboratory: its cluster file, the node of one of its machines, and what such a machine says of itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from fabric.machines.facts import MachineFacts
from fabric.machines.spec import NodeSpec

HEAD, HOT, COLD, SPARE = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
GIB = 2**30

_FILE: Mapping[str, Any] = {
    "cluster_name": "lab",
    "provider": {"type": "external", "module": "pools.node_provider.MachinesProvider"},
    "auth": {"ssh_user": "ann", "ssh_private_key": "~/.ssh/lab"},
    "available_node_types": {
        "head": {"node_config": {"machines": [HEAD]}, "resources": {"CPU": 2}, "labels": {"tier": "cold", "flavor": "cpu"}},
        "hot": {"node_config": {"machines": [HOT]}, "resources": {"CPU": 8, "GPU": 1}, "labels": {"tier": "hot", "flavor": "a100-80g"},
                "min_workers": 1},
        "cold": {"node_config": {"machines": [COLD, SPARE]}, "resources": {"CPU": 4}, "labels": {"tier": "cold", "flavor": "cpu"},
                 "min_workers": 1},
    },
    "head_node_type": "head",
}  # fmt: skip


def cluster_file(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The laboratory's file. `changes`: a path such as `provider/ports` -> what stands there; None takes the key away."""
    made = copy.deepcopy(dict(_FILE))
    for path, value in (changes or {}).items():
        at: Any = made
        *parents, last = path.split("/")
        for part in parents:
            at = at.setdefault(part, {})
        if value is None:
            del at[last]
        else:
            at[last] = value
    return made


def node_spec(**changes: Any) -> NodeSpec:
    """A worker of the laboratory."""
    plain: dict[str, Any] = {
        "cluster": "lab",
        "kind": "worker",
        "address": HOT,
        "head": HEAD,
        "node_type": "hot",
        "instance_id": f"{HOT}-1",
        "environment": "~/.tierfabric/venv",
        "labels": {"tier": "hot", "flavor": "a100-80g"},
        "resources": {"CPU": 8, "GPU": 1},
        "friends": (HEAD, HOT, COLD),
    }
    return NodeSpec(**{**plain, **changes})


def facts(values: Mapping[str, object] | None = None, **others: Any) -> MachineFacts:
    """A machine in good order with one card, but for `values`; None takes a line away. `others`: fields of MachineFacts."""
    good: dict[str, object] = {
        "python": "3.11.9",
        "has_venv": 1,
        "home": "/home/ann",
        "is_home_writable": 1,
        "home_free_bytes": 100 * GIB,
        "tmp_free_bytes": 50 * GIB,
        "shm_bytes": 32 * GIB,
        "memory_bytes": 64 * GIB,
        "files": 65536,
        "has_nvidia-smi": 1,
        "nvidia_cards": 1,
    }
    merged = {**good, **(values or {})}
    return MachineFacts({name: str(value) for name, value in merged.items() if value is not None}, **{"reached_s": 0.2, **others})
