"""Pure: what a running cluster's facts say about the fabric on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric.doctor.check import GOOD_SKEW_S, WORST_SKEW_S, Check, State
from fabric.status_form import SILENT_S
from fabric.types import Flavor, Node

LABELS_CURE = 'start it with `ray start --labels "$(fabric node labels)"`'


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What one node said of itself. `skew_s`: how far its clock is off at the least; the rest is the answer's way here."""

    ray: str
    python: str
    tierfabric: str
    skew_s: float


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What was seen of a cluster. `answers`: node id -> its answer, or why there is none. `actors`: name -> problem or ``.

    `silent`: hosts whose node agent has reported nothing. `is_auth_enforced` is None where that could not be told.
    """

    address: str
    here: NodeAnswer
    nodes: Sequence[Node]
    answers: Mapping[str, NodeAnswer | str]
    actors: Mapping[str, str]
    silent: Sequence[str]
    is_auth_enforced: bool | None
    shipping: Mapping[str, Any] | None = None
    """As `fabric status` has it; None: the head's databases are nowhere else."""


def check_cluster(facts: ClusterFacts, catalogue: Mapping[str, Flavor], tiers: Sequence[str]) -> list[Check]:
    """Every check of the cluster."""
    return [
        _check("head", "ok", f"answers at {facts.address}, {len(facts.nodes)} nodes"),
        _auth(facts),
        *_unlabelled(facts),
        *_flavors(facts, catalogue, tiers),
        *_answers(facts),
        _versions(facts),
        _clocks(facts),
        *_actors(facts),
        *_agents(facts),
        *_shipping(facts),
    ]


def _check(name: str, state: State, detail: str, cure: str = "") -> Check:
    return Check("cluster", name, state, detail, cure)


def _called(node: Node) -> str:
    return f"{node.node_id[:8]} ({node.host})"


def _auth(facts: ClusterFacts) -> Check:
    if facts.is_auth_enforced is None:
        return _check(
            "authentication", "warn", "cannot be told", "see RAY_AUTH_MODE where the head was started; `token` is what it should be"
        )
    if not facts.is_auth_enforced:
        cure = "export RAY_AUTH_MODE=token before `ray start` on every node, with the same ~/.ray/auth_token"
        return _check("authentication", "warn", "off: whoever reaches the head may run code on every node", cure)
    return _check("authentication", "ok", "token")


def _unlabelled(facts: ClusterFacts) -> Iterator[Check]:
    without = [node for node in facts.nodes if not (node.tier and node.flavor)]
    for node in without:
        yield _check("labels", "fail", f"node {_called(node)} has no tier and flavor: nothing is routed there", LABELS_CURE)
    if not without:
        yield _check("labels", "ok", "every node has its tier and flavor")


def _flavors(facts: ClusterFacts, catalogue: Mapping[str, Flavor], tiers: Sequence[str]) -> Iterator[Check]:
    for node in facts.nodes:
        if not (node.tier and node.flavor):
            continue
        flavor = catalogue.get(node.flavor)
        if flavor is None:
            cure = f"add {node.flavor} under flavors: in fabric.yaml, or {LABELS_CURE}"
            yield _check("flavors", "fail", f"node {_called(node)} is of the unknown flavor {node.flavor!r}", cure)
        elif node.tier not in tiers:
            cure = f"add {node.tier} under tiers: in fabric.yaml, or {LABELS_CURE}"
            yield _check("flavors", "fail", f"node {_called(node)} is of the unknown tier {node.tier!r}", cure)
        elif flavor.tier != node.tier:
            detail = f"node {_called(node)} says tier {node.tier}, but {flavor.name} is {flavor.tier}"
            yield _check("flavors", "warn", detail, f"move it: flavors: {{{flavor.name}: {{tier: {node.tier}}}}}, or {LABELS_CURE}")


def _answers(facts: ClusterFacts) -> Iterator[Check]:
    for node in facts.nodes:
        answer = facts.answers.get(node.node_id)
        if isinstance(answer, str):
            cure = "see that the node is up and that `pip install tierfabric` was done there, for the Python that runs Ray"
            yield _check("nodes", "fail", f"node {_called(node)} runs nothing of the fabric: {answer}", cure)


def _versions(facts: ClusterFacts) -> Check:
    here = facts.here
    wanted = (here.ray, _minor(here.python), here.tierfabric)
    others = []
    for node in facts.nodes:
        answer = facts.answers.get(node.node_id)
        if isinstance(answer, NodeAnswer) and (answer.ray, _minor(answer.python), answer.tierfabric) != wanted:
            others.append(f"{_called(node)}: Ray {answer.ray}, Python {answer.python}, tierfabric {answer.tierfabric}")
    detail = f"Ray {here.ray}, Python {_minor(here.python)}, tierfabric {here.tierfabric}"
    if others:
        return _check("versions", "fail", f"here {detail}; " + "; ".join(others), "install the same three on every node")
    return _check("versions", "ok", f"{detail} on every node that answered")


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _clocks(facts: ClusterFacts) -> Check:
    skews = {node.node_id: a.skew_s for node in facts.nodes if isinstance(a := facts.answers.get(node.node_id), NodeAnswer)}
    worst = max(skews, key=lambda node_id: skews[node_id], default=None)
    if worst is None or skews[worst] <= GOOD_SKEW_S:
        return _check("clocks", "ok", f"within {GOOD_SKEW_S:g} s of this one")
    state: State = "fail" if skews[worst] > WORST_SKEW_S else "warn"
    detail = f"node {worst[:8]} is off by {skews[worst]:.1f} s or more"
    return _check("clocks", state, detail, "run chrony or systemd-timesyncd on every node")


def _actors(facts: ClusterFacts) -> Iterator[Check]:
    for name, problem in facts.actors.items():
        if problem:
            yield _check("actors", "fail", f"{name}: {problem}", f"`fabric up --address {facts.address}` starts it anew")
    if not any(facts.actors.values()):
        yield _check("actors", "ok", f"{len(facts.actors)} answer: {', '.join(facts.actors)}")


def _shipping(facts: ClusterFacts) -> Iterator[Check]:
    if facts.shipping is None:
        return
    where, silent_s, databases = (facts.shipping[key] for key in ("storage_url", "silent_s", "databases"))
    if silent_s is None or silent_s > SILENT_S:
        yield _check("journal's copy", "warn", f"nothing is heard of it in {where}", "the scheduler's log says why: `ray logs actor`")
        return
    for name, one in databases.items():
        if one["error"]:
            cure = "see `superseded` and `storage_failed` in docs/operations.md: until then the head's disk has the only copy"
            yield _check("journal's copy", "fail", f"{name} in {where}: {one['state']}: {one['error']}", cure)
        elif one["lag_s"] is None:
            yield _check("journal's copy", "warn", f"{name}: no whole copy in {where} yet", "wait; `fabric status` says how far it is")
    if not any(one["error"] or one["lag_s"] is None for one in databases.values()):
        behind_s = max((one["lag_s"] for one in databases.values()), default=0.0) + silent_s
        yield _check("journal's copy", "ok", f"in {where}, {behind_s:.1f} s behind")


def _agents(facts: ClusterFacts) -> Iterator[Check]:
    for host in facts.silent:
        cure = "wait some seconds after `fabric up`; then look for agent- in `ray list actors`"
        yield _check("agents", "warn", f"no use is measured on {host}", cure)
