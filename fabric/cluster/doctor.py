"""`fabric doctor FILE`: what would fail at a launch, on which machine; and, where the cluster runs, who gets in without its token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fabric.cluster.browser import try_browser
from fabric.cluster.doors import try_doors
from fabric.cluster.file import ClusterFile
from fabric.cluster.look import Seen, look_at_all
from fabric.doctor.check import Check
from fabric.errors import ConfigError, FabricError
from fabric.machines import local, ship
from fabric.machines.certificates import check_certificates
from fabric.machines.checks import is_running
from fabric.machines.plan import Cluster
from fabric.types import Flavor

WHERE = "this machine"


def examine(file: ClusterFile, catalogue: Mapping[str, Flavor], told: Callable[[str], None]) -> list[Check]:
    """Every row, this machine's first. `told` hears a line of progress. Never raises for what is wrong out there."""
    cluster = file.cluster
    checks = [Check(WHERE, "cluster file", "ok", f"{file.path} ({file.provider})"), *_flavors(file, catalogue)]
    if cluster is None:
        return checks
    checks += [*_secrets(cluster)]
    seen = look_at_all(cluster, "", catalogue, lambda one: told(_line(one)))
    for one in seen.values():
        checks += one.checks
    running = [host for host, one in seen.items() if one.facts is not None and is_running(one.facts, cluster.name)]
    if running:
        told(f"trying the doors of {len(running)} machines, as a stranger")
        checks += try_doors(cluster, running)
    if cluster.head in running:
        try:
            checks += try_browser(cluster)
        except FabricError as error:
            checks.append(Check(f"{cluster.head} ({cluster.head_type})", "browser", "warn", error.message, error.hint or ""))
    return checks


def _line(seen: Seen) -> str:
    failing = seen.failing
    return f"{seen.host}: {'answers' if failing is None else f'{failing.name}: {failing.detail}'}"


def _flavors(file: ClusterFile, catalogue: Mapping[str, Flavor]) -> Iterator[Check]:
    for name, kind in (file.config.get("available_node_types") or {}).items():
        flavor = (kind.get("labels") or {}).get("flavor")
        if flavor is not None and flavor not in catalogue:
            cure = "add it under flavors: in fabric.yaml, or mend the label"
            yield Check(WHERE, "flavors", "fail", f"node type {name} is of the unknown flavor {flavor!r}", cure)


def _secrets(cluster: Cluster) -> Iterator[Check]:
    path = local.token_path(cluster.name)
    if cluster.is_open:
        yield Check(WHERE, "token", "fail", "authentication is off in this file", "take RAY_AUTH_MODE out of provider.env")
    elif not path.exists():
        yield Check(WHERE, "token", "ok", f"{path} (made by `fabric up`)")
    else:
        try:
            ship.read_token(path)
            yield Check(WHERE, "token", "ok", f"{path}, mode 0600")
        except ConfigError as error:
            yield Check(WHERE, "token", "fail", error.message, error.hint or "")
    if cluster.provider.tls is not None:
        yield from check_certificates(cluster.provider.tls)
