"""Looks at every machine of a cluster at once, and judges each: what `fabric up` does first, and `fabric doctor FILE` all the way."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version

from fabric.doctor.check import Check
from fabric.errors import FabricError
from fabric.machines.checks import Wanted, check_machine
from fabric.machines.facts import MachineFacts, look
from fabric.machines.plan import Cluster
from fabric.machines.ssh import Remote
from fabric.types import Flavor

MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """One machine: its checks, and its facts where it answered."""

    host: str
    checks: tuple[Check, ...]
    facts: MachineFacts | None

    @property
    def failing(self) -> Check | None:
        return next((check for check in self.checks if check.state == "fail"), None)


def look_at(cluster: Cluster, host: str, release: str, catalogue: Mapping[str, Flavor]) -> Seen:
    """One machine. Never raises for what is wrong with it."""
    kind = cluster.node_types[cluster.all_machines()[host]]
    where = f"{host} ({kind.name})"
    ports = cluster.ports().of("head" if host == cluster.head else "worker")
    try:
        cluster.spec(host, "", "")  # its name must be known here
        facts = look(Remote(host, cluster.access), cluster.python, ports)
    except FabricError as error:
        name = "name" if error.code == "host_unknown" else "ssh"
        return Seen(host, (Check(where, name, "fail", error.message.removeprefix(f"{host}: "), error.hint or ""),), None)
    wanted = Wanted(
        cluster=cluster.name,
        kind="head" if host == cluster.head else "worker",
        node_type=kind.name,
        labels=kind.labels,
        resources=kind.resources,
        ports=ports,
        environment=cluster.provider.environment,
        python=cluster.provider.python,
        python_version=platform.python_version(),
        ray=version("ray"),
        tierfabric=version("tierfabric"),
        release=release,
    )
    return Seen(host, tuple(check_machine(where, facts, wanted, catalogue)), facts)


def look_at_all(cluster: Cluster, release: str, catalogue: Mapping[str, Flavor], told: Callable[[Seen], None]) -> dict[str, Seen]:
    """All machines of the file at once; `told` hears of each as it answers."""
    hosts = list(cluster.all_machines())

    def one(host: str) -> Seen:
        seen = look_at(cluster, host, release, catalogue)
        told(seen)
        return seen

    with ThreadPoolExecutor(max_workers=min(len(hosts), MOST_AT_ONCE), thread_name_prefix="look") as pool:
        return {seen.host: seen for seen in pool.map(one, hosts)}
