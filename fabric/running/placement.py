"""Leases and the actors in them, in Ray's terms: placement groups, named detached actors, which device is whose.

A lease is a detached placement group `lease-<job>.<attempt>`; removing it ends every actor in it. Nothing here decides.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import ray
from ray.experimental import internal_kv
from ray.util import get_node_ip_address, list_named_actors
from ray.util.placement_group import PlacementGroup, get_placement_group, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from fabric import ray_io
from fabric.errors import RejectedError
from fabric.running.order import LEASE_PREFIX
from fabric.types import FLAVOR_LABEL

RESERVE_TIMEOUT_S = 10.0
WAKE_TIMEOUT_S = 600.0
"""How long a node that was asleep may take to come."""
LOOK_S = 1.0
DEVICES_TIMEOUT_S = 60.0
_EPOCH_KEY = b"fabric-job-epoch"
_GONE = ("REMOVED",)
_AFTER_RAYLET_S = 7.0
"""Longer than a host takes to learn that its lease is gone or its leader has given up (`lease_watch.RENEW_S`), and to end."""


class Refused(Exception):
    """Ray could not confirm a reservation."""


def reserve(
    name: str,
    bundle: Mapping[str, float],
    num_bundles: int,
    flavor: str,
    *,
    spread: bool,
    avoid: Collection[str] = (),
    timeout_s: float = RESERVE_TIMEOUT_S,
    is_wanted: Callable[[], bool] = lambda: True,
) -> tuple[PlacementGroup, tuple[str, ...]]:
    """A placement group of alike bundles on nodes of one flavor, and the node of each bundle.

    Raises: Refused where Ray has not placed all of them in `timeout_s`, or they are not wanted any more; nothing stays reserved then.
    """
    selector = {FLAVOR_LABEL: flavor}
    if avoid:
        selector[ray_io.NODE_ID_LABEL] = f"!in({','.join(sorted(avoid))})"
    group = placement_group(
        [dict(bundle) for _ in range(num_bundles)],
        strategy="STRICT_SPREAD" if spread else "PACK",
        name=name,
        lifetime="detached",
        bundle_label_selector=[selector] * num_bundles,
    )
    try:
        deadline_s = time.monotonic() + timeout_s
        while not group.wait(min(LOOK_S, timeout_s)):
            if not is_wanted():
                raise Refused("it is not wanted any more")
            if time.monotonic() >= deadline_s:
                raise Refused(f"Ray found no room for {num_bundles} x {_shown(bundle)} on {flavor} within {timeout_s:.0f} s")
        return group, nodes_of(group)
    except BaseException:
        remove_placement_group(group)
        raise


def nodes_of(group: PlacementGroup) -> tuple[str, ...]:
    """The node of each bundle, in their order."""
    placed = placement_group_table(group)["bundles_to_node_id"]
    return tuple(placed[index] for index in sorted(placed))


def find_lease(name: str) -> PlacementGroup | None:
    """Asks Ray's head; blocks while that is away."""
    with contextlib.suppress(ValueError):
        return get_placement_group(name)
    return None


def lease_exists(name: str) -> bool:
    return find_lease(name) is not None


def release(name: str, timeout_s: float = 5.0) -> None:
    """Give a lease back: everything in it ends. Returns when Ray has forgotten it, or after the time."""
    deadline_s = time.monotonic() + timeout_s
    while (group := find_lease(name)) is not None and time.monotonic() < deadline_s:
        remove_placement_group(group)
        time.sleep(0.01)


def leases() -> list[str]:
    """The names of all leases that Ray knows."""
    table = placement_group_table().values()
    return [row["name"] for row in table if row["name"].startswith(LEASE_PREFIX) and row["state"] not in _GONE]


def actor_names() -> list[str]:
    """The names of the living actors of this namespace."""
    return list(list_named_actors())


def start_in_bundle(
    kind: type, name: str, group: PlacementGroup, index: int, bundle: Mapping[str, float], *args: Any, **options: Any
) -> Any:
    """Start an actor that takes all of a bundle. `options`: further ones of Ray's, such as `runtime_env`."""
    rest = {key: amount for key, amount in bundle.items() if key not in ("CPU", "GPU", "memory")}
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index, placement_group_capture_child_tasks=False)
    return (
        _remote(kind)
        .options(
            name=name,
            namespace=ray_io.NAMESPACE,
            lifetime="detached",
            num_cpus=bundle.get("CPU", 0),
            num_gpus=bundle.get("GPU", 0),
            memory=int(bundle.get("memory", 0)) or None,
            resources=rest,
            max_restarts=0,
            scheduling_strategy=strategy,
            **options,
        )
        .remote(*args)
    )


def start_on_node(kind: type, name: str, node_id: str, *args: Any, **options: Any) -> Any:
    """Start, or find, an actor that claims nothing, on one node; Ray starts it anew where it dies and the node lives."""
    return (
        _remote(kind)
        .options(
            name=name,
            namespace=ray_io.NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            **options,
        )
        .remote(*args)
    )


@cache
def _remote(code: Any) -> Any:
    """Made once: each new one would be exported to Ray's head again."""
    return ray.remote(code)


def visible_devices(group: PlacementGroup, index: int, bundle: Mapping[str, float]) -> dict[str, str]:
    """The variables by which Ray shows a bundle's accelerators to a worker (`CUDA_VISIBLE_DEVICES`, …)."""
    rest = {key: amount for key, amount in bundle.items() if key not in ("CPU", "GPU", "memory")}
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    task = _remote(_visible).options(num_cpus=0, num_gpus=bundle.get("GPU", 0), resources=rest, max_retries=0, scheduling_strategy=strategy)
    answer: dict[str, str] = ray_io.ask(task.remote(), DEVICES_TIMEOUT_S)
    return answer


def _visible() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if "VISIBLE" in name and "NOSET" not in name}


def claim_epoch(epoch: int) -> bool:
    """Whether it is the first that this Ray cluster sees. Raises: RejectedError where a later epoch was seen in it."""
    known = internal_kv._internal_kv_get(_EPOCH_KEY)
    seen = int(known or 0)
    if epoch < seen:
        raise RejectedError(f"epoch {epoch} is over: {seen} was seen", code="stale_epoch")
    if epoch > seen:
        internal_kv._internal_kv_put(_EPOCH_KEY, str(epoch).encode(), overwrite=True)
    return known is None


def this_node() -> tuple[str, str]:
    """(node id, IP address) of the node that this worker runs on."""
    return ray_io.worker_place().node_id, get_node_ip_address()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def wait_until_dead(node_ids: Collection[str], lease_s: float) -> None:
    """Return when nothing can run any more on those of the nodes that Ray has given up.

    A node that Ray does not hear may be cut off, and its processes alive, for as long as their lease. Where its machine
    answers that no raylet listens any more, it is not cut off, and what lives on it learns in a moment that it must end.
    """
    dead = [row for row in ray.nodes() if row["NodeID"] in node_ids and not row["Alive"]]
    if not dead:
        return
    time.sleep(_AFTER_RAYLET_S if all(_is_refused(row) for row in dead) else lease_s + _AFTER_RAYLET_S)


def _is_refused(row: Mapping[str, Any]) -> bool:
    try:
        with socket.create_connection((row["NodeManagerAddress"], row["NodeManagerPort"]), timeout=2.0):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def _shown(bundle: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in bundle.items())


def living_node_ids() -> Sequence[str]:
    return [row["NodeID"] for row in ray.nodes() if row["Alive"]]
