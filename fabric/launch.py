"""The composition root: configuration to actors, up and down. The only `ray.remote` for actors is here.

Invariants: everything is idempotent (`get_if_exists`), so any process may call it at any time; a fabric actor is named,
detached, in the namespace `fabric`, restarts for ever, and lives on the head, beside its journal.
"""

from __future__ import annotations

import atexit
import functools
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fabric import client as fabric_client
from fabric import ray_io, twin
from fabric.claims import sync_claims
from fabric.client import Client
from fabric.config import FabricConfig, address_from_environment, load_config, set_ray_environment
from fabric.errors import UnavailableError
from fabric.registry.opened import open_registry
from fabric.running.order import JOB_PREFIX
from fabric.shipping.opened import open_journal
from fabric.stranded import ALWAYS, lost
from fabric.types import Flavor
from pools.flavors import load_catalogue

NODES_TIMEOUT_S = 60.0
SERVING_TIMEOUT_S = 60.0
_HEAD = {ray_io.HEAD_RESOURCE: 0.001}
_SERVING = b"fabric-serving"
"""Of Ray's own store, which outlives its head: the names of the actors that serve models, where that was ever asked for."""


def connect(address: str | None = None, *, config: FabricConfig | Path | str | None = None) -> Client:
    """Join a fabric, or start the laptop twin where there is none to join.

    `address`: `host:port` of a Ray head, or `auto`. Without one: FABRIC_ADDRESS or RAY_ADDRESS, else the twin that
    `fabric up` started, else a twin of this process, which ends with it. Calling it again returns the same client.

    Raises: UnavailableError within 10 s for a dead address; ConfigError, UnknownNameError for bad settings.
    """
    if (client := fabric_client.attached()) is not None and ray_io.is_connected():
        return client
    settings = config if isinstance(config, FabricConfig) else load_config(Path(config) if config else None).config
    catalogue = load_catalogue(settings.flavors, tiers=settings.tier_names)
    wanted = address or address_from_environment()
    if wanted is None and not ray_io.is_connected() and twin.running(settings) is None:
        twin.start(settings, catalogue, is_owned=True)
        atexit.register(disconnect)
    # Calls need no fabric actor: where they are missing, the client starts them behind the first calls.
    return _attach(wanted, settings)


def join(address: str | None, config: FabricConfig) -> Client:
    """Join the fabric at `address`, or the running twin, and start its actors where they are missing.

    Raises: UnavailableError where there is neither.
    """
    client = _attach(address, config)
    start_actors(client.config, client.catalogue)
    return client


def _attach(address: str | None, config: FabricConfig) -> Client:
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    address = address or address_from_environment()
    num_nodes = 1
    if not ray_io.is_connected():
        if address is None:
            state = twin.running(config)
            if state is None:
                raise UnavailableError("no fabric runs here", hint="`fabric up` starts one; --address joins another machine's")
            address, num_nodes = state.address, state.num_nodes
        told = {"name": Path(sys.argv[0] or "python").name, "user": config.user, "queue": config.queue}
        ray_io.connect(address, log_to_driver=config.log_to_driver, told=told)
    # A twin's node that was drained or killed does not come back: nobody waits for it.
    num_gone = sum(not node["Alive"] for node in ray.nodes())
    if num_nodes > 1:
        ray_io.wait_for_nodes(num_nodes - num_gone, NODES_TIMEOUT_S)
    config, catalogue = _settings_in_force(config, catalogue)
    client = Client(config, catalogue, revive=lambda: start_actors(config, catalogue), start_serving=start_serving)
    fabric_client.attach(client)
    return client


def _settings_in_force(mine: FabricConfig, catalogue: dict[str, Flavor]) -> tuple[FabricConfig, dict[str, Flavor]]:
    """A running fabric's tiers and flavors, with what is this caller's own: who asks, and what waiting is worth here."""
    try:
        theirs, catalogue = ray_io.ask(ray_io.actor("profiler").settings.remote())
    except UnavailableError:
        return mine, catalogue
    own = {name: getattr(mine, name) for name in ("user", "queue", "routing", "log_to_driver")}
    return theirs.model_copy(update=own), catalogue


def disconnect() -> None:
    """Leave the fabric. A twin that `connect` started ends; one that `fabric up` started stays."""
    fabric_client.attach(None)
    ray_io.disconnect()
    twin.stop_owned()


def up(config: FabricConfig) -> tuple[twin.TwinState, bool]:
    """Start the laptop twin in the background, with all fabric actors; (its state, whether it is new)."""
    if state := twin.running(config):
        return state, False
    state = twin.start(config, load_catalogue(config.flavors, tiers=config.tier_names), is_owned=False)
    return state, True


def down(config: FabricConfig) -> bool:
    """End the twin that `up` started; False where none runs."""
    return twin.stop(config)


def start_actors(config: FabricConfig, catalogue: Mapping[str, Flavor]) -> None:
    """Make sure that the fabric's actors exist; returns at once, they start in the background."""
    # The actors' modules bring the database in: a second that no caller's first task should wait for.
    from fabric.plane.shell import SchedulerShell
    from pools.shell import PoolShell
    from profiler.shell import ProfilerShell

    set_ray_environment()
    free = functools.partial(free_stranded, config, dict(catalogue))
    for tier in config.tier_names:
        options = {**_actor_options(f"pool-{tier}"), "resources": _HEAD}
        ray.remote(PoolShell).options(**options).remote(tier, config, dict(catalogue), start_node_agent, free)
    options = {**_actor_options("profiler"), "resources": _HEAD}
    ray.remote(ProfilerShell).options(**options).remote(config, dict(catalogue))
    options = {**_actor_options("scheduler"), "resources": _HEAD}
    ray.remote(SchedulerShell).options(**options).remote(config, dict(catalogue), free, start_console)


def start_console(config: FabricConfig, catalogue: Mapping[str, Flavor]) -> None:
    """From the scheduler, once it answers: what a page needs shall not slow down what a job needs. Idempotent; returns at once."""
    from fabric.console.shell import ACTOR, ConsoleShell

    options = {**_actor_options(ACTOR), "resources": _HEAD}
    ray.remote(ConsoleShell).options(**options).remote(config, dict(catalogue))


def free_stranded(config: FabricConfig, catalogue: Mapping[str, Flavor]) -> list[str]:
    """End the fabric's actors that are `lost`, start them anew, and say which. Whoever of them is there first does it for all.

    Raises: UnavailableError where Ray's head does not answer.
    """
    expected = [*(f"pool-{tier}" for tier in config.tier_names), *ALWAYS]
    serving = internal_kv._internal_kv_get(_SERVING)
    expected += serving.decode().split() if serving else []
    stranded, missing = lost(ray_io.address(), expected)
    stranded = [name for name in stranded if not name.startswith((ray_io.WARM_PREFIX, JOB_PREFIX))]
    found = [*stranded, *missing]
    if not found:
        return []
    for name in stranded:  # one that is missing may be on its way
        ray_io.end_actor(name)
    start_actors(config, catalogue)
    if config.console.enabled and "console" in stranded:  # a scheduler that lives on starts none
        start_console(config, catalogue)
    if serving and set(serving.decode().split()) & set(found):  # its port may be another's by now: nothing else waits for that
        threading.Thread(target=start_serving, args=(config, twin.running(config) is not None), name="serving", daemon=True).start()
    return found


def start_serving(config: FabricConfig, is_twin: bool) -> None:
    """Make sure that the actors exist which serve models; waits until requests are answered. Where they run already, theirs are the
    settings in force. Raises: RuntimeFault (`port_taken`, `haproxy_failed`)."""
    from serve_apps.directory.ingresses import Ingresses
    from serve_apps.directory.requests import ACTOR as DIRECTORY
    from serve_apps.directory.shell import DirectoryShell
    from serve_apps.ingress.make_waker import make_waker
    from serve_apps.ingress.settings import ingress_settings, is_loopback
    from serve_apps.ingress.shell import ACTOR as INGRESS
    from serve_apps.ingress.shell import IngressShell
    from serve_apps.place_model import offers_for
    from serve_apps.ray_directory import RayDirectory
    from serve_apps.serve_port import RayServe

    set_ray_environment()
    settings = ingress_settings(config, is_twin=is_twin)
    is_local = is_loopback(ray_io.address().rpartition(":")[0])  # all nodes are this machine
    serve_port = RayServe(config, is_open=settings.is_open, host="127.0.0.1" if is_local else "")
    options = {**_actor_options(DIRECTORY), "resources": _HEAD, "max_concurrency": 1000}
    spread = Ingresses(config, is_spread=not is_local), SpreadIngresses(config)
    ray.remote(DirectoryShell).options(**options).remote(config, open_journal, open_registry, serve_port, offers_for, sync_claims, spread)
    options = {**_actor_options(INGRESS), "resources": _HEAD}
    ingress = ray.remote(IngressShell).options(**options).remote(settings, RayDirectory(), functools.partial(make_waker, config))
    ray_io.ask(ingress.settings.remote(), SERVING_TIMEOUT_S)
    internal_kv._internal_kv_put(_SERVING, f"{DIRECTORY} {INGRESS}".encode(), overwrite=True)


class SpreadIngresses:
    """Starts and ends the ingresses that stand beside replicas on other machines than the head, from the directory."""

    def __init__(self, config: FabricConfig) -> None:
        # No process is parked there: models are woken where the head's ingress is.
        self._config = config.model_copy(update={"serving": config.serving.model_copy(update={"parked": 0})})

    def open(self, node_id: str) -> None:
        """Raises: RuntimeFault (`port_taken`, `haproxy_failed`), UnavailableError."""
        from serve_apps.ingress.make_waker import make_waker
        from serve_apps.ingress.settings import ingress_settings
        from serve_apps.ingress.shell import IngressShell
        from serve_apps.ray_directory import RayDirectory

        settings = ingress_settings(self._config, is_twin=False)
        affinity = NodeAffinitySchedulingStrategy(node_id, soft=False)
        ingress = ray.remote(IngressShell).options(**_actor_options(self._name(node_id)), scheduling_strategy=affinity)
        started = ingress.remote(settings, RayDirectory(), functools.partial(make_waker, self._config))
        ray_io.ask(started.settings.remote(), SERVING_TIMEOUT_S)

    def here(self) -> str:
        return ray_io.worker_place().node_id

    def end(self, node_id: str) -> None:
        ray_io.end_actor(self._name(node_id))

    @staticmethod
    def _name(node_id: str) -> str:
        return f"ingress-{node_id}"


def start_node_agent(host: str, node_id: str, tier: str) -> None:
    """Start the agent of a machine, on one of its nodes, and let it report to a tier's pool. Idempotent."""
    from pools.node_agent import NodeAgent

    options = _actor_options(f"agent-{host}")
    affinity = NodeAffinitySchedulingStrategy(node_id, soft=False)
    agent = ray.remote(NodeAgent).options(**options, scheduling_strategy=affinity).remote(host)
    agent.watch.remote(tier)


def on_node(node_id: str, fn: Callable[[], Any]) -> Any:
    """Run a function once on one node, beside everything else (it claims nothing); its ObjectRef."""
    affinity = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(fn).options(num_cpus=0, max_retries=0, scheduling_strategy=affinity).remote()


def _actor_options(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": ray_io.NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": 0,
        "max_concurrency": 16,
    }
