"""`fabric up FILE` and `fabric down FILE`: a cluster from its file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fabric.errors import RejectedError, RuntimeFault

if TYPE_CHECKING:
    from fabric.cluster.file import ClusterFile
    from fabric.cluster.launch import Launched
    from fabric.config import FabricConfig


def up_file(path: Path, config: FabricConfig, *, restart: bool, is_insecure: bool) -> int:
    """Launch; the exit status: 1 where a machine failed. Raises: FabricError where the whole failed."""
    from fabric.cluster.file import read_cluster_file
    from fabric.cluster.launch import launch
    from pools.flavors import load_catalogue

    file = read_cluster_file(path)
    _refuse_open(file, is_insecure)
    if file.cluster is None:
        return _by_ray("up", file)
    click.echo(f"{file.name}: {len(file.cluster.first_machines())} of {len(file.cluster.all_machines())} machines start now", err=True)
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    launched = launch(file, catalogue, lambda line: click.echo(line, err=True), restart=restart)
    click.echo(_summary(file, launched))
    return 1 if launched.failed else 0


def down_file(path: Path, *, is_sure: bool) -> int:
    """End the cluster; the exit status: 1 where a machine could not be told."""
    from fabric.cluster.down import end
    from fabric.cluster.file import read_cluster_file

    file = read_cluster_file(path)
    if not is_sure:
        if not sys.stdin.isatty():
            raise RejectedError("down ends all that runs there, and nobody is there to confirm it", code="not_confirmed", hint="--yes")
        click.confirm(f"end cluster {file.name} and all that runs on it?", abort=True)
    if file.cluster is None:
        return _by_ray("down", file)
    failed = end(file, lambda line: click.echo(line, err=True))
    click.echo(f"{file.name} is down" if not failed else f"{file.name} is down but for {', '.join(failed)}")
    return 1 if failed else 0


def _refuse_open(file: ClusterFile, is_insecure: bool) -> None:
    text = str(file.config)
    is_open = file.cluster.is_open if file.cluster else "RAY_AUTH_MODE=token" not in text
    if not is_open:
        return
    if not is_insecure:
        raise RejectedError(
            f"{file.name} would be open: whoever reaches its ports may run code on every machine (CVE-2023-48022)",
            code="insecure",
            hint="take RAY_AUTH_MODE out of the file's environment (token is the default), or say --insecure",
        )
    click.echo(f"WARNING: {file.name} is INSECURE: whoever reaches its ports may run code on every machine", err=True)


def _by_ray(verb: str, file: ClusterFile) -> int:
    """Machines that are rented start by Ray's own providers; what they are given is packed first."""
    from fabric import auth
    from fabric.machines import ship

    if verb == "up":
        auth.make_token()
        shipment = ship.prepare(Path(ship.THERE).expanduser(), token=None)
        click.echo(f"packed {shipment.release} into {shipment.folder}", err=True)
    ray = Path(sys.executable).with_name("ray")
    if not ray.exists():
        raise RuntimeFault(f"{ray} is not there", code="no_ray", hint="pip install 'ray[default]' into this environment")
    command = [str(ray), verb, str(file.path), "--yes"]
    click.echo(" ".join(command), err=True)
    return subprocess.run(command, env={**os.environ, "RAY_AUTH_MODE": "token"}, check=False).returncode


def _summary(file: ClusterFile, launched: Launched) -> str:
    from fabric.machines import local

    cluster = launched.cluster
    user, head = cluster.access.user, cluster.head
    key = f" -i {cluster.access.private_key}" if cluster.access.private_key else ""
    lines = [f"{file.name}: {len(launched.up)} of {len(cluster.first_machines())} machines are up"]
    for host, error in launched.failed.items():
        lines.append(f"  {host} is not: {error.message}")
    if launched.failed:
        lines.append("  mend what is named above and run the same again: what is up stays as it is")
    spec = cluster.spec(head, "", "")
    port, ssh = cluster.ports().dashboard, f"ssh{key} {user}@{head}"
    steps = (
        (f"{ssh} '~/.tierfabric/run fabric status'", "what the nodes do"),
        (f"ssh -N{key} -L {port}:127.0.0.1:{port} {user}@{head}", f"then the dashboard: http://127.0.0.1:{port}"),
        (f"export RAY_AUTH_TOKEN_PATH={local.token_path(cluster.name)}", "this machine may then join it:"),
        (f"fabric status --address {spec.head}:{spec.ports.gcs}", ""),
        (f"fabric down {file.path}", "ends it"),
    )
    return "\n".join([*lines, "", "next:", *(f"  {command}{'  # ' + what if what else ''}" for command, what in steps)])
