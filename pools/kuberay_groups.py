"""A cluster that KubeRay keeps, in the form of a cluster file of Ray's autoscaler: its worker groups are node types.

Pure. Reads what is applied: `RayCluster`, or `RayService` with one inside. Source: KubeRay's API reference (RayClusterSpec), and how Ray
2.60 derives its autoscaler's configuration from that kind; `tests/unit/test_kuberay_groups.py` holds this against Ray's own reading.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

KINDS = ("RayCluster", "RayService")
HEAD_GROUP = "headgroup"
"""What KubeRay calls the head's group in its pods' labels, and so in Ray's node type."""
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)(m|k|[MGTPE]|[KMGTPE]i)?")
_POWERS = {prefix: power for power, prefix in enumerate("KMGTPE", start=1)}
_START_PARAMS = {"CPU": "num-cpus", "GPU": "num-gpus", "memory": "memory"}


def cluster_file(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a cluster file that a tier counts on. Raises: KeyError, TypeError, ValueError where it is no such document."""
    spec = document["spec"]["rayClusterConfig"] if document["kind"] == "RayService" else document["spec"]
    types = {HEAD_GROUP: {"resources": _resources(spec["headGroupSpec"]), "labels": {}, "max_workers": 0}}
    for group in spec.get("workerGroupSpecs") or ():
        most = int(group["maxReplicas"]) * int(group.get("numOfHosts", 1))
        types[group["groupName"]] = {"resources": _resources(group), "labels": group.get("labels") or {}, "max_workers": most}
    return {
        "head_node_type": HEAD_GROUP,
        "available_node_types": types,
        "max_workers": sum(kind["max_workers"] for kind in types.values()),
        "provider": {"type": "kuberay"},
    }


def _resources(group: Mapping[str, Any]) -> dict[str, int]:
    """The group's own `resources` win over `ray start`'s arguments, those over the limits of the first container, which is Ray's."""
    own, started = group.get("resources") or {}, group.get("rayStartParams") or {}
    asked = group["template"]["spec"]["containers"][0].get("resources") or {}
    limits = {**(asked.get("requests") or {}), **(asked.get("limits") or {})}
    of_pod = {"CPU": limits.get("cpu"), "memory": limits.get("memory"), "TPU": limits.get("google.com/tpu")}
    of_pod["GPU"] = next((amount for name, amount in limits.items() if name.endswith("gpu") and quantity(amount)), None)
    given = {name: started[param] for name, param in _START_PARAMS.items() if param in started}
    # KubeRay takes a JSON object here, quoted once more and escaped for its shell.
    custom = json.loads(started["resources"].strip("'\"").replace("\\", "")) if "resources" in started and not own else {}
    every = {**of_pod, **given, **custom, **own}
    return {name: quantity(amount) for name, amount in every.items() if amount is not None}


def quantity(text: str | float) -> int:
    """A quantity of Kubernetes' (`500m`, `64Gi`, `2`), rounded up. Raises: ValueError."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    number, unit = float(found[1]), found[2] or ""
    if unit == "m":
        return math.ceil(number / 1000)
    base = 1024.0 if unit.endswith("i") else 1000.0
    return math.ceil(number * base ** _POWERS.get(unit[:1].upper(), 0))
