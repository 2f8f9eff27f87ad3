"""What the launching machine keeps of a cluster, under `~/.tierfabric/clusters/NAME`: token, shipment, known hosts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fabric.machines import expand, ship
from fabric.machines.certificates import refuse_bad
from fabric.machines.node_files import one_launch
from fabric.machines.plan import Cluster, read_cluster
from fabric.machines.ship import Shipment
from fabric.types import Flavor

HEAD_SPEC = "head.json"


def folder(cluster_name: str) -> Path:
    return Path("~/.tierfabric/clusters").expanduser() / cluster_name


def token_path(cluster_name: str) -> Path:
    return folder(cluster_name) / "auth_token"


def pack(cluster: Cluster) -> Shipment:
    """The cluster's shipment, with its token (made now where there is none). Raises: ConfigError, RuntimeFault."""
    token = None if cluster.is_open else ship.make_token(token_path(cluster.name))
    tls = cluster.provider.tls
    if tls is not None:
        refuse_bad(tls)
    files = {"cert": tls.cert, "key": tls.key, "ca": tls.ca} if tls else None
    return ship.prepare(
        folder(cluster.name) / "ship", token=token, tls=files, settings=cluster.settings, is_packed=cluster.provider.environment is None
    )


def bootstrap(config: Mapping[str, Any], catalogue: Mapping[str, Flavor]) -> dict[str, Any]:
    """A cluster file as `ray up` runs it."""
    whole = expand.complete(config, catalogue)
    cluster = read_cluster(whole)
    shipment = pack(cluster)
    spec = cluster.spec(cluster.head, cluster.head_instance(), shipment.release)
    (shipment.folder / HEAD_SPEC).write_text(spec.to_json(), encoding="utf-8")
    return expand.with_ray_up(whole, str(shipment.folder), HEAD_SPEC)


@contextlib.contextmanager
def launching(cluster_name: str) -> Iterator[None]:
    """One launch of a cluster at a time from here. Raises: RejectedError (`launch_running`)."""
    folder(cluster_name).mkdir(mode=0o700, parents=True, exist_ok=True)
    with one_launch(folder(cluster_name) / "lock", cluster_name):
        yield
