"""Pure: a cluster file of machines made whole, as `ray up` and the head's autoscaler read it. What the user wrote is kept."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Mapping
from typing import Any

from fabric.machines.command import BOOTSTRAP_CONFIG
from fabric.machines.plan import HEAD_KEY, Cluster, read_cluster
from fabric.machines.ship import THERE
from fabric.types import Flavor

# Keys that Ray reads without asking whether they are there.
EMPTY: Mapping[str, Any] = {
    "file_mounts": {},
    "cluster_synced_files": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "auth": {},
}


def complete(config: Mapping[str, Any], catalogue: Mapping[str, Flavor]) -> dict[str, Any]:
    """Every key that Ray wants, a priority by price for each node type, and the facts that the node provider needs, in its own section."""
    whole = {**copy.deepcopy(dict(EMPTY)), **copy.deepcopy(dict(config))}
    cluster = read_cluster(config)
    kinds = whole["available_node_types"]
    for name, rank in _by_price(cluster, catalogue).items():
        kinds[name].setdefault("priority", rank)
    for name, kind in cluster.node_types.items():
        kinds[name]["min_workers"], kinds[name]["max_workers"] = kind.min_workers, kind.max_workers
    whole.setdefault("max_workers", sum(kind.max_workers for kind in cluster.node_types.values()))
    whole["provider"] |= {
        "disable_node_updaters": True,
        "ssh": dict(config.get("auth") or {}),
        "node_types": {name: _plain(kinds[name]) for name in kinds},
        "head_node_type": cluster.head_type,
    }
    return whole


def for_head(config: Mapping[str, Any]) -> dict[str, Any]:
    """The copy that the head's autoscaler reads: its key to the machines lies where `ray up` puts it, and there is no way around."""
    there = copy.deepcopy(dict(config))
    auth = there.get("auth") or {}
    auth = {key: value for key, value in auth.items() if not key.startswith("ssh_proxy")}
    if "ssh_private_key" in auth:
        auth["ssh_private_key"] = HEAD_KEY
    there["auth"] = auth
    there["provider"] = {**there["provider"], "ssh": auth, "on_head": True}
    there["file_mounts"] = {path: path for path in there.get("file_mounts", {})}
    return there


def with_ray_up(config: Mapping[str, Any], folder: str, head_spec: str) -> dict[str, Any]:
    """What `ray up` is to do on the head, by its own means: `folder` is the shipment here, `head_spec` a file in it."""
    whole = copy.deepcopy(dict(config))
    cluster = read_cluster(config)
    whole["file_mounts"] = {**whole["file_mounts"], THERE: folder}
    install = f"sh {THERE}/install.sh {shlex.join([cluster.provider.environment or '', cluster.provider.python])}"
    agent = f"{cluster.environment}/bin/python -m fabric.machines.agent start restart up < {THERE}/{head_spec}"
    actors = f"~/.tierfabric/run fabric up --address {cluster.spec(cluster.head, '', '').head}:{cluster.ports().gcs}"
    whole["head_setup_commands"] = [*whole["head_setup_commands"], install]
    # Ray looks for these words, to warn where the head would start nothing: the agent runs just that.
    whole["head_start_ray_commands"] = [f": 'ray start --head --autoscaling-config={BOOTSTRAP_CONFIG}'; {agent}", actors]
    return whole


def provider_cluster(provider: Mapping[str, Any], name: str) -> Cluster:
    """The cluster, from what `complete` put into the provider's section: all that a node provider is given."""
    return read_cluster(
        {
            "cluster_name": name,
            "provider": {key: value for key, value in provider.items() if not key.startswith("_")},  # Ray notes its own there
            "auth": provider.get("ssh", {}),
            "available_node_types": provider.get("node_types", {}),
            "head_node_type": provider.get("head_node_type"),
        }
    )


def dumps(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=1, default=str)


def _by_price(cluster: Cluster, catalogue: Mapping[str, Flavor]) -> dict[str, int]:
    """The cheaper a node, the higher: of several types that fit, the autoscaler starts the one of the highest priority."""
    prices = {}
    for name, kind in cluster.node_types.items():
        flavor = catalogue.get(kind.labels.get("flavor", ""))
        if flavor is not None and name != cluster.head_type:
            units = kind.resources.get(flavor.resource, kind.resources.get("CPU", 1)) / (flavor.units or 1)
            prices[name] = float("inf") if flavor.usd_per_h is None else flavor.usd_per_h * max(units, 1)
    ordered = sorted(prices, key=lambda name: (-prices[name], name))
    return {name: rank for rank, name in enumerate(ordered, start=1)}


def _plain(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {key: kind[key] for key in ("node_config", "labels", "resources", "min_workers", "max_workers") if key in kind}
