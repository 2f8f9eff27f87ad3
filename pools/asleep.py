"""Which nodes are not there, and would be started for work that asks for them: by Ray's autoscaler, from its cluster file, or from what
KubeRay was given.

A node that is asleep counts as room, so that work is sent there: Ray sees a demand for its labels, and starts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fabric.types import FLAVOR_LABEL, SLOWDOWN_LABEL, TIER_LABEL, Node, asleep_id
from pools.kuberay_groups import KINDS, cluster_file

WAKE_S: Mapping[str, float] = {"external": 20.0}
"""By the provider's type: a machine of one's own has its packages, and has to start Ray."""
CLOUD_WAKE_S = 180.0
"""An instance that boots and is set up."""


@dataclass(frozen=True, slots=True)
class NodeType:
    """One of a cluster file's `available_node_types`, as far as it can be routed to. At most `most` nodes of it at once."""

    name: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]
    most: int


@dataclass(frozen=True, slots=True)
class NodeTypes:
    """`most`: nodes of all types together, beside the head."""

    head_type: str = ""
    types: tuple[NodeType, ...] = ()
    most: int = 0
    wake_s: float = CLOUD_WAKE_S


def read_node_types(config: Mapping[str, Any]) -> NodeTypes:
    """Of a cluster file as Ray's autoscaler reads it. Types without tier, flavor or resources cannot be counted on."""
    head_type = str(config.get("head_node_type") or "")
    types = []
    for name, kind in (config.get("available_node_types") or {}).items():
        labels, resources = kind.get("labels") or {}, kind.get("resources") or {}
        if name != head_type and labels.get(TIER_LABEL) and labels.get(FLAVOR_LABEL) and resources:
            types.append(NodeType(name, dict(labels), {key: float(each) for key, each in resources.items()}, int(kind["max_workers"])))
    provider = (config.get("provider") or {}).get("type", "")
    return NodeTypes(head_type, tuple(types), int(config.get("max_workers") or 0), WAKE_S.get(provider, CLOUD_WAKE_S))


def asleep(known: NodeTypes, living: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that could still be started; none where the file is not the running cluster's."""
    joined = Counter(node.node_type for node in living)
    if not joined[known.head_type]:
        return ()
    left = known.most - (joined.total() - joined[known.head_type])
    found = []
    for kind in known.types:
        numbers = range(joined[kind.name], min(kind.most, joined[kind.name] + max(0, left)))
        found += [_node(kind, number, known.wake_s) for number in numbers]
    return tuple(found)


def _node(kind: NodeType, number: int, wake_s: float) -> Node:
    return Node(
        node_id=asleep_id(kind.name, number),
        host=kind.name,
        tier=kind.labels[TIER_LABEL],
        flavor=kind.labels[FLAVOR_LABEL],
        total=kind.resources,
        used={},
        health="asleep",
        is_elastic=True,
        slowdown=float(slowdown) if (slowdown := kind.labels.get(SLOWDOWN_LABEL)) else None,
        node_type=kind.name,
        wake_s=wake_s,
    )


class NodeTypesFile:
    """A cluster file on this machine, or KubeRay's document, read again when it changes. One that cannot be read has no types."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._stamp: tuple[int, int] | None = None
        self._known = NodeTypes()

    def read(self) -> NodeTypes:
        try:
            found = self._path.stat()
        except OSError:
            self._stamp, self._known = None, NodeTypes()
            return self._known
        if (stamp := (found.st_mtime_ns, found.st_size)) != self._stamp:
            self._stamp, self._known = stamp, self._parsed()
        return self._known

    def _parsed(self) -> NodeTypes:
        try:
            document = yaml.safe_load(self._path.read_text(encoding="utf-8"))
            return read_node_types(cluster_file(document) if document.get("kind") in KINDS else document)
        except (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
            return NodeTypes()
