"""`fabric up`: the laptop twin, or the fabric's actors on a Ray cluster that is there already."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import joined, load, ray_bound
from fabric.errors import UnavailableError

if TYPE_CHECKING:
    from fabric.client import Client
    from fabric.config import FabricConfig
    from fabric.twin import TwinState

NODES_TIMEOUT_S = 90.0
ACTORS_TIMEOUT_S = 90.0
POOLS_TIMEOUT_S = 10.0
CONSOLE_WAIT_S = 10.0


@click.command(cls=FabricCommand)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--address", metavar="HOST:PORT", help="Start the fabric's actors on this Ray cluster instead of a twin here.")
@click.option("--name", help="The fabric's name (setting `name`).")
@click.option("--dashboard/--no-dashboard", default=None, help="Ray's dashboard of the twin (setting `dashboard.enabled`).")
@click.option("--restart", is_flag=True, help="Start nodes anew that run with other settings than FILE's.")
@click.option("--insecure", is_flag=True, help="Start even without authentication, if FILE says so.")
@click.pass_context
def up(
    ctx: click.Context,
    file: Path | None,
    address: str | None,
    name: str | None,
    dashboard: bool | None,
    restart: bool,
    insecure: bool,
) -> None:
    """Start a fabric and wait until its nodes have joined and its actors answer.

    With FILE, a cluster file (cluster_configs/): on the machines that it names, over SSH, or on a cloud. Each machine is looked at
    first; one that fails is named with its cure, and the others come up. Without: a twin of three tiers on this machine, in the
    background, until `fabric down`. Doing it again changes nothing.
    """
    from fabric import twin

    settings: Settings = ctx.obj
    config = load(settings, name=name, dashboard__enabled=dashboard).config
    steps = _Steps()
    if file is not None:
        from fabric.cli.cluster_up import up_file

        ctx.exit(up_file(file, config, restart=restart, is_insecure=insecure))
    if address is not None:
        _start_on(address, config, steps)
    elif state := twin.running(config):
        click.echo(f"already up at {state.address} (twin, {state.num_nodes} nodes); `fabric down` ends it")
    else:
        _start_twin(config, steps)


class _Steps:
    """Progress on stderr: what is done and how long it took."""

    def __init__(self) -> None:
        self._begun_s = self._last_s = time.monotonic()

    def done(self, what: str) -> None:
        from fabric.show import duration

        now_s = time.monotonic()
        click.echo(f"{what:<12} {duration(now_s - self._last_s)}", err=True)
        self._last_s = now_s

    def total(self) -> str:
        from fabric.show import duration

        return duration(time.monotonic() - self._begun_s)


def _start_twin(config: FabricConfig, steps: _Steps) -> None:
    from fabric.config import address_from_environment

    if elsewhere := address_from_environment():
        click.echo(f"hint: FABRIC_ADDRESS or RAY_ADDRESS is set: other commands go to {elsewhere}, not to this twin", err=True)
    launch = ray_bound("fabric.launch")
    state, is_new = launch.up(config)
    steps.done("head" if is_new else "head (found)")
    with joined(config, state.address) as client:
        _await_all(client, state.num_nodes, steps)
        tiers, console = _tiers_table(client), _console(client)
    click.echo(_summary(f"up in {steps.total()}: twin at {state.address}", state, tiers, console))


def _start_on(address: str, config: FabricConfig, steps: _Steps) -> None:
    with joined(config, address) as client:
        steps.done("joined")
        _free_stranded(client)
        _await_all(client, 1, steps)
        tiers, console = _tiers_table(client), _console(client)
    lines = [f"up in {steps.total()}: fabric at {address}", *([f"console: {console}"] if console else ())]
    click.echo("\n".join([*lines, "", tiers, "", f"next: fabric status --address {address}"]))


def _await_all(client: Client, num_nodes: int, steps: _Steps) -> None:
    """Wait for the nodes, then for an answer of every actor. Raises: UnavailableError."""
    ray_io: Any = ray_bound("fabric.ray_io")
    deadline_s = time.monotonic() + NODES_TIMEOUT_S
    while (joined_nodes := len(ray_io.living_nodes())) < num_nodes:
        if time.monotonic() > deadline_s:
            raise UnavailableError(
                f"only {joined_nodes} of {num_nodes} nodes joined", hint="see twin.log in the state directory; `fabric doctor`"
            )
        time.sleep(0.1)
    steps.done(f"nodes {joined_nodes}/{num_nodes}" if num_nodes > 1 else f"nodes {joined_nodes}")
    actors = [*(f"pool-{tier}" for tier in client.config.tier_names), "profiler", "scheduler"]  # the scheduler answers once its API does
    pings = [ray_io.actor(actor).ping.remote() for actor in actors]
    ray_io.ask(pings, timeout_s=ACTORS_TIMEOUT_S)
    _await_pools(client, {node.node_id for node in ray_io.living_nodes() if node.flavor and node.tier in client.config.tier_names})
    steps.done(f"actors {len(pings)}/{len(actors)}")


def _await_pools(client: Client, node_ids: set[str]) -> None:
    """Wait until the pools list these nodes: they look once a second, and what is printed next is what they know."""
    read_pools: Any = ray_bound("fabric.status").read_pools
    deadline_s = time.monotonic() + POOLS_TIMEOUT_S
    while time.monotonic() < deadline_s:  # past it, the table says what is known: a node may have left meanwhile
        listed = {node.node_id for pool in read_pools(client).values() for node in getattr(pool, "nodes", ())}
        if node_ids <= listed:
            return
        time.sleep(0.1)


def _free_stranded(client: Client) -> None:
    """Where a head came back on its records, an actor may be taken for alive where nothing is."""
    launch: Any = ray_bound("fabric.launch")
    if stranded := launch.free_stranded(client.config, client.catalogue):
        click.echo(f"made anew: {', '.join(stranded)} (their node is gone)", err=True)


def _tiers_table(client: Client) -> str:
    from fabric.tiers import format_tiers

    return format_tiers(ray_bound("fabric.status").read_tiers(client))


def _console(client: Client) -> str | None:
    """Where the console is, if that is known soon: it starts last."""
    if not client.config.console.enabled:
        return None
    url: str | None = ray_bound("fabric.status").read_console(CONSOLE_WAIT_S)
    return url


def _summary(headline: str, state: TwinState, tiers: str, console: str | None) -> str:
    dashboard = f"http://{state.dashboard.removeprefix('http://')}" if state.dashboard else "off"
    steps = (
        ("fabric status", "what the nodes do"),
        *([("fabric console", "the same and more in a browser")] if console else ()),
        ("export RAY_AUTH_MODE=token", "lets `ray status` and `ray list` in"),
        ("fabric down", "ends it"),
    )
    lines = [headline, f"dashboard: {dashboard}", *([f"console: {console}"] if console else ()), "", tiers, "", "next:"]
    return "\n".join([*lines, *(f"  {command:<28} {what}" for command, what in steps)])
