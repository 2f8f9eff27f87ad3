"""Which of the fabric's actors Ray has lost: it takes them for alive on a node that is gone, and calls to them hang for ever; or it has
forgotten them.

Seen with Ray 2.60 where a head is killed in the moment in which it learns of a node's death. The restart of the actors there is not on
its disk yet, and nobody makes up for it; or it finds that no node is left that they may be on, and gives them up. Ray's public ways to
ask need the dashboard, which comes last when a head restarts, so the head is asked by its own protocol.
`python -m fabric.stranded HOST:PORT` prints their names: the watchdog's question, before there is any actor that could ask.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any, NamedTuple

from fabric import auth
from fabric.errors import UnavailableError

NAMESPACE = "fabric"
ALWAYS = ("scheduler", "profiler")
"""Every fabric has these."""
TIMEOUT_S = 4.0


class Lost(NamedTuple):
    """Names: of those that are taken for alive where nothing is, and of those that are expected and not known."""

    stranded: list[str]
    missing: list[str]


def lost(address: str, expected: Collection[str] = ALWAYS) -> Lost:
    """`address`: of Ray's head. Raises: UnavailableError."""
    import grpc
    from ray.core.generated import gcs_pb2, gcs_service_pb2, gcs_service_pb2_grpc

    options: dict[str, Any] = {"timeout": TIMEOUT_S, "metadata": auth.head_metadata()}
    try:
        with auth.head_channel(address) as channel:
            nodes, actors = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel), gcs_service_pb2_grpc.ActorInfoGcsServiceStub(channel)
            living = living_nodes(nodes.GetAllNodeInfo(gcs_service_pb2.GetAllNodeInfoRequest(), **options).node_info_list)
            wanted = gcs_service_pb2.ListNamedActorsRequest(all_namespaces=False, ray_namespace=NAMESPACE)
            names = [named.name for named in actors.ListNamedActors(wanted, **options).named_actors_list]
            found = []
            for name in names:
                request = gcs_service_pb2.GetNamedActorInfoRequest(name=name, ray_namespace=NAMESPACE)
                told = actors.GetNamedActorInfo(request, **options).actor_table_data
                if told.name == name and told.state == gcs_pb2.ActorTableData.ALIVE and told.address.node_id.hex() not in living:
                    found.append(name)
    except grpc.RpcError as error:
        raise UnavailableError(f"Ray's head at {address} does not say where its actors are: {error.code().name}") from error
    return Lost(found, [name for name in expected if name not in names])


def living_nodes(rows: Any) -> set[str]:
    """The ids of the nodes that Ray takes for alive."""
    from ray.core.generated import gcs_pb2

    return {row.node_id.hex() for row in rows if row.state == gcs_pb2.GcsNodeInfo.ALIVE}


if __name__ == "__main__":
    sys.stdout.write("\n".join(name for names in lost(sys.argv[1]) for name in names) + "\n")
