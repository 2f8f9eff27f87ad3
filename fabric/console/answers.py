"""The documents of the console's pages, for one who asks: what it may not see is not in them. See `docs/console.md`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from fabric.api.tokens import Principal
from fabric.capacity import capacities
from fabric.console.fabric_view import NodeFigures, known_sum, tiers_json
from fabric.console.follower import Follower
from fabric.console.job_window import Filter, holding_text
from fabric.console.known_tasks import KnownTasks
from fabric.console.node_window import matching_nodes, sorted_nodes
from fabric.console.read_model import MOST_CHANGED
from fabric.console.sight import Sight, sight_of
from fabric.console.task_form import costs_of, task_form
from fabric.console.task_list import task_window
from fabric.console.timeline import Window, bars, marks
from fabric.errors import RejectedError
from fabric.routing import RoutingPolicy

PANELS = ("pools", "timeline", "queue", "tasks", "models", "policy", "usage")
MOST_SUMMARIES = 50_000
NODE_JOBS = 5


class Answers:
    """Over what a follower knows; for many threads."""

    def __init__(self, follower: Follower, tasks: KnownTasks, policy: RoutingPolicy, name: str, version: str) -> None:
        """`policy`: by which calls of tasks are routed."""
        self._follower, self._tasks, self._policy = follower, tasks, policy
        self._name, self._version = name, version

    def overview(self, who: Principal) -> dict[str, Any]:
        follower, sight = self._follower, sight_of(who)
        with follower.lock:
            model, view = follower.model, follower.view
            jobs, seq = model.table.counts(sight.mask(model.table)), model.seq
        return {
            "name": self._name,
            "version": self._version,
            "now_s": follower.now_s(),
            "seq": seq,
            "panels": [panel for panel in PANELS if panel != "tasks" or sight.is_whole],
            "who": {"user": who.user, "scopes": sorted(who.scopes), "queues": sorted(who.queues)},
            "api_problem": follower.problem,
            "jobs": jobs,
            "usd_per_h": known_sum(each.usd_per_h for each in view.nodes),
            "idle_usd_per_h": known_sum(each.idle_usd_per_h for each in view.nodes),
            "tiers": tiers_json(view, model.catalogue),
        }

    def nodes(self, who: Principal, *, sort: str, descending: bool, offset: int, limit: int, **wanted: str) -> dict[str, Any]:
        """Raises: UnknownNameError (`unknown_sort`)."""
        follower, sight = self._follower, sight_of(who)
        found = sorted_nodes(matching_nodes(follower.view, **wanted), sort, descending)
        some = found[offset : offset + limit]
        with follower.lock:
            shown = [each.as_json(follower.model.catalogue.get(each.node.flavor), self._names(each, sight)) for each in some]
        return {"nodes": shown, "total": len(found), "now_s": follower.now_s()}

    def series(self, who: Principal, minutes: float) -> dict[str, Any]:
        sight_of(who)
        with self._follower.lock:
            return self._follower.series.as_json(minutes)

    def jobs(self, who: Principal, wanted: Filter, *, sort: str, descending: bool, offset: int, limit: int) -> dict[str, Any]:
        """Raises: UnknownNameError (`unknown_sort`)."""
        follower, model, sight = self._follower, self._follower.model, sight_of(who)
        with follower.lock:
            numbers, total, states = model.order.window(wanted, sight.mask(model.table), sort, descending, offset, limit)
            unknown = model.unknown_summaries(numbers)
        summaries = follower.summaries(unknown) if unknown else {}
        with follower.lock:
            if len(model.summaries) > MOST_SUMMARIES:
                model.summaries.clear()
                unknown = model.unknown_summaries(numbers)
            model.summaries.update(summaries)
            now_s, twins = follower.now_s(), follower.view.twins
            shown = [model.view(number, twins, now_s) for number in numbers]
            return {"jobs": shown, "total": total, "states": states, "now_s": now_s, "seq": model.seq}

    def timeline(self, who: Principal, window: Window, *, tier: str, flavor: str, text: str, offset: int, limit: int) -> dict[str, Any]:
        follower, model, sight = self._follower, self._follower.model, sight_of(who)
        with follower.lock:
            now_s, seen = follower.now_s(), sight.mask(model.table)
            listed = self._timeline_nodes(window, tier, flavor, text, seen)
            some = listed[offset : offset + limit]
            numbers = [model.book.nodes.known(row["node_id"]) for row in some]
            drawn = bars(model.book, model.index, model.table, numbers, window, now_s, seen)
            marked = marks(model.book, model.index, model.table, numbers, window, seen)
        lanes = [1] * len(some)
        for bar in drawn:
            lanes[bar[0]] = max(lanes[bar[0]], bar[1] + 1)
        rows = [{**row, "lanes": num} for row, num in zip(some, lanes, strict=True)]
        return {
            "from_s": window.from_s,
            "to_s": window.to_s,
            "now_s": now_s,
            "total_rows": len(listed),
            "rows": rows,
            "bars": drawn,
            "marks": marked,
        }

    def tasks(self, who: Principal, *, text: str, sort: str, descending: bool, offset: int, limit: int) -> dict[str, Any]:
        """Raises: RejectedError (`forbidden`), UnknownNameError (`unknown_sort`), FabricError where the profiler does not answer."""
        _must_see_tasks(who)
        shown, total = task_window(self._tasks.rows(), text=text, sort=sort, descending=descending, offset=offset, limit=limit)
        return {"tasks": shown, "total": total, "now_s": self._follower.now_s()}

    def task(self, who: Principal, name: str) -> dict[str, Any]:
        """Raises: RejectedError (`forbidden`), UnknownNameError (`unknown_task`), FabricError where the profiler does not answer."""
        _must_see_tasks(who)
        follower, profiles = self._follower, self._tasks.profiles()
        with follower.lock:
            snapshots, catalogue = follower.snapshots, follower.model.catalogue
        form = task_form(name, profiles, capacities(snapshots.values(), catalogue), catalogue, self._policy, costs_of(follower.models))
        return {**form, "now_s": follower.now_s()}

    def changed_jobs(self, sight: Sight, numbers: Collection[int]) -> dict[str, Any]:
        """The event `jobs`: which changed, of those that are seen."""
        follower, model = self._follower, self._follower.model
        with follower.lock:
            mask = sight.mask(model.table)
            seen = numbers if mask is None else [number for number in numbers if mask[number]]
            ids = [model.table.rows[number].id for number in seen] if len(seen) <= MOST_CHANGED else None
            states = model.table.counts(mask)
            return {"seq": model.seq, "now_s": follower.now_s(), "states": states, "ids": ids, "at_s": model.newest_s}

    def _names(self, each: NodeFigures, sight: Sight) -> list[str]:
        rows = (self._follower.model.table.rows[number] for number in each.jobs)
        return [row.name for row in rows if sight.sees(row.user, row.queue)][:NODE_JOBS]

    def _timeline_nodes(self, window: Window, tier: str, flavor: str, text: str, seen: Any) -> list[dict[str, Any]]:
        """The nodes that are there, then those that are gone and held something in the window. `text` is looked for in nodes and in
        the jobs that they held."""
        follower, model = self._follower, self._follower.model
        leases, catalogue = model.book.leases, model.catalogue
        is_in = (leases.view("from_s") <= window.to_s) & (leases.view("to_s") >= window.from_s)
        if seen is not None:
            is_in &= seen[leases.view("job")]
        nodes = model.book.nodes.all
        flavors = dict(zip(leases.view("node")[is_in].tolist(), leases.view("flavor")[is_in].tolist(), strict=True))
        living = matching_nodes(follower.view, tier=tier, flavor=flavor)
        rows = [{"node_id": n.node_id, "host": n.host, "flavor": n.flavor, "tier": n.tier} for n in (each.node for each in living)]
        gone = []
        for number, flavor_number in flavors.items():
            name = model.book.flavors.all[flavor_number]
            its_tier = catalogue[name].tier if name in catalogue else ""
            if nodes[number] not in follower.view.by_id and tier in ("", its_tier) and flavor in ("", name):
                gone.append({"node_id": nodes[number], "host": "", "flavor": name, "tier": its_tier})
        rows += sorted(gone, key=lambda row: row["node_id"])
        if not text:
            return rows
        is_in &= holding_text(model.table, text)[leases.view("job")]
        held = {nodes[number] for number in np.unique(leases.view("node")[is_in]).tolist()}
        word = text.lower()
        return [row for row in rows if row["node_id"] in held or word in "\n".join((row["host"], row["node_id"], row["flavor"])).lower()]


def _must_see_tasks(who: Principal) -> None:
    """A task's figures are of all who called it: nobody sees only some of them. Raises: RejectedError (`forbidden`)."""
    who.must("read")
    if who.queues:
        message = "tasks are of no queue, and this token is bound to queues"
        raise RejectedError(message, code="forbidden", hint="a token with the scope read and no queues sees them")
