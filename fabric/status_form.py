"""Pure: what the fabric's nodes are doing, as one JSON form; the printed table shows nothing else.

    {name, address, tiers: [{tier, task_share, problem, nodes: [node], asleep: {flavor: nodes}, leases: [lease]}], unlabelled: [node id],
     stragglers: [straggler], shipping, console, totals}
    node:  {node_id, host, tier, flavor, health, twin, slowdown, accelerator, resources: {name: {used, total}}, usage,
            leases: [lease id], usd_per_h, idle_usd_per_h}
    lease: {lease_id, owner, node_id, demand}
    straggler: {node_id, card, flavor, factor, runs, tasks, since_s}: slower than its like, since this wall-clock time; `card`
           is null, or the index of the one card that is
    shipping: null where the head's databases are nowhere else, or {storage_url, silent_s, databases: {name: {state, lag_s, changes,
           bytes, error}}}: what was committed `lag_s` ago is in the store; `silent_s` ago this was heard

    console: where the console is, or null

Units are in the names or are Ray's (CPU, GPU: counts; memory: bytes). A figure that is not known is null. `problem` is
null, or why the tier's pool did not answer: its nodes are then missing here, and may well be working.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.capacity import idle_share, node_usd_per_h
from fabric.show import amount, gib, usd
from fabric.types import Flavor, Lease, Node, PoolSnapshot
from profiler.stragglers import Straggler

SILENT_S = 10.0
"""The process that ships says every second how far it is."""


def fabric_json(
    name: str,
    address: str,
    tiers: Sequence[Mapping[str, Any]],
    unlabelled: Sequence[str],
    stragglers: Iterable[Straggler] = (),
    shipping: Mapping[str, Any] | None = None,
    console: str | None = None,
) -> dict[str, Any]:
    """The whole form, of `pool_json`s."""
    nodes = [node for tier in tiers for node in tier["nodes"]]
    slow = [
        {
            "node_id": s.node_id,
            "card": s.card,
            "flavor": s.flavor,
            "factor": s.factor,
            "runs": s.num_runs,
            "tasks": s.num_tasks,
            "since_s": s.since_s,
        }
        for s in stragglers
    ]
    return {
        "name": name,
        "address": address,
        "tiers": list(tiers),
        "unlabelled": list(unlabelled),
        "stragglers": slow,
        "shipping": shipping,
        "console": console,
        "totals": _totals(nodes),
    }


def pool_json(pool: PoolSnapshot, catalogue: Mapping[str, Flavor], *, problem: str | None = None) -> dict[str, Any]:
    """One tier's part of the form."""
    return {
        "tier": pool.tier,
        "task_share": pool.task_share,
        "problem": problem,
        "nodes": [node_json(node, catalogue.get(node.flavor), pool.leases) for node in pool.nodes],
        "asleep": dict(Counter(node.flavor for node in pool.asleep)),
        "leases": [
            {"lease_id": lease.lease_id, "owner": lease.owner, "node_id": lease.node_id, "demand": dict(lease.demand)}
            for lease in pool.leases
        ],
    }


def node_json(node: Node, flavor: Flavor | None, leases: Iterable[Lease] = ()) -> dict[str, Any]:
    """One node's part of the form; `flavor` is None where the catalogue lacks it."""
    usd_per_h = None if flavor is None else node_usd_per_h(node, flavor)
    return {
        "node_id": node.node_id,
        "host": node.host,
        "tier": node.tier,
        "flavor": node.flavor,
        "health": node.health,
        "twin": node.is_twin,
        "slowdown": node.slowdown,
        "accelerator": flavor.resource if flavor is not None and not flavor.is_cpu else None,
        "resources": {name: {"used": node.used.get(name, 0.0), "total": total} for name, total in sorted(node.total.items())},
        "usage": None if node.usage is None else dataclasses.asdict(node.usage),
        "leases": [lease.lease_id for lease in leases if lease.node_id == node.node_id],
        "usd_per_h": usd_per_h,
        "idle_usd_per_h": None if usd_per_h is None or flavor is None else usd_per_h * idle_share(node, flavor),
    }


def _totals(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [node["idle_usd_per_h"] for node in nodes if node["idle_usd_per_h"] is not None]
    return {
        "nodes": len(nodes),
        "ready": sum(node["health"] == "ready" for node in nodes),
        "twins": sum(node["twin"] for node in nodes),
        "idle_usd_per_h": sum(known) if known else None,
        "nodes_without_price": len(nodes) - len(known),
    }


def format_status(document: Mapping[str, Any]) -> str:
    """The form for people."""
    return text_of(status_blocks(document))


def status_blocks(document: Mapping[str, Any]) -> list[Block]:
    """Every node, then what is wrong and what idles."""
    columns = ["tier", "node", "host", "flavor", "health", "CPU", "accel", "memory", "CPU %", "GPU %", "RAM", "leases", "idle $/h"]
    nodes = [node for tier in document["tiers"] for node in tier["nodes"]]
    totals = document["totals"]
    twins = f", {totals['twins']} of them twin" if totals["twins"] else ""
    head = Lines([f"{document['name']} at {document['address']}: {totals['ready']}/{totals['nodes']} nodes ready{twins}"])
    rows = [_row(node) for node in nodes]
    lines = [f"idle: {usd(totals['idle_usd_per_h'])} per hour{_price_notes(totals)}"]
    asleep = [f"{num} {flavor}" for tier in document["tiers"] for flavor, num in tier["asleep"].items()]
    lines += [f"asleep: {', '.join(asleep)} (they start when work asks for them)"] if asleep else []
    lines += [f"pool {tier['tier']} does not answer: {tier['problem']}" for tier in document["tiers"] if tier["problem"]]
    lines += [_slow(each, nodes) for each in document["stragglers"]]
    lines += _shipping(document["shipping"])
    if document["console"]:
        lines.append(f"console: {document['console']} (`fabric console` opens it)")
    if document["unlabelled"]:
        ids = ", ".join(node_id[:8] for node_id in document["unlabelled"])
        lines.append(f'without tier and flavor labels, so unused: {ids} (`ray start --labels "$(fabric node labels)"`)')
    shown = Table(columns, rows, columns[5:], is_framed=True) if rows else Lines(["no node has joined a tier"])
    return [head, shown, Lines(lines)]


def _shipping(shipping: Mapping[str, Any] | None) -> list[str]:
    """A line for the journal; further ones for what is wrong."""
    if shipping is None:
        return []
    where, silent_s, databases = shipping["storage_url"], shipping["silent_s"], shipping["databases"]
    if silent_s is None or silent_s > SILENT_S or not databases:
        return [f"journal: nothing is heard of its copy in {where}{'' if silent_s is None else f' for {silent_s:.0f} s'}"]
    lines = []
    for name, one in databases.items():
        lag = "no whole copy yet" if one["lag_s"] is None else f"{one['lag_s'] + silent_s:.1f} s behind"
        if one["error"]:
            lines.append(f"{name}: its copy in {where} is {lag}, {one['state']}: {one['error']}")
        elif name == "journal":
            lines.append(f"{name}: its copy in {where} is {lag}" if one["lag_s"] is not None else f"{name}: {lag} in {where}")
    return lines


def _slow(straggler: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> str:
    host = next((node["host"] for node in nodes if node["node_id"] == straggler["node_id"]), "")
    where = f"{straggler['node_id'][:8]}{f' ({host})' if host else ''}"
    behind = f"{straggler['runs']} runs of {straggler['tasks']} tasks"
    card = "" if straggler["card"] is None else f"card {straggler['card']} of "
    return f"{card}node {where}: {straggler['factor']:.1f} × slower than its like on {straggler['flavor']} ({behind})"


def _price_notes(totals: Mapping[str, Any]) -> str:
    unknown = totals["nodes_without_price"]
    notes = ["twins at the price of what they stand for"] if totals["twins"] else []
    notes += [f"{unknown} without a known price not counted"] if unknown else []
    return f" ({'; '.join(notes)})" if notes else ""


def _row(node: Mapping[str, Any]) -> list[str]:
    usage = node["usage"] or {}
    memory = node["resources"].get("memory")
    return [
        node["tier"],
        node["node_id"][:8],
        node["host"],
        node["flavor"] + twin_mark(node["slowdown"]),
        node["health"],
        _used(node["resources"].get("CPU")),
        _used(node["resources"].get(node["accelerator"])),
        "-" if memory is None else f"{memory['used'] / 2**30:.3g}/{gib(memory['total'])}",
        _percent(usage.get("cpu_frac")),
        _percent(usage.get("gpu_frac")),
        f"{usage['memory_used_bytes'] / 2**30:.3g}/{gib(usage['memory_total_bytes'])}" if usage else "-",
        str(len(node["leases"])),
        usd(node["idle_usd_per_h"]),
    ]


def twin_mark(slowdown: float | None) -> str:
    """` twin ×2`, or nothing for hardware that is there."""
    return "" if slowdown is None else f" twin ×{slowdown:g}"


def _used(resource: Mapping[str, float] | None) -> str:
    return "-" if resource is None else f"{amount(round(resource['used'], 3))}/{amount(resource['total'])}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.0f} %"
