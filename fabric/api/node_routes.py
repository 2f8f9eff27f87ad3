"""The pages that act on nodes: what `fabric node cordon`, `uncordon` and `drain` do, with the same checks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.nodes_port import NodesPort
from fabric.api.pages import page
from fabric.api.schema import DrainRequest, read
from fabric.node_orders import ORDERS, Order

_NODE = pages.answers(
    node_id="its id", host="its machine", tier="its tier", flavor="its flavor", twin="whether it is a twin's", health="as it is now",
    changed="false: it was so already",
)  # fmt: skip
_WHAT: dict[Order, str] = {
    "cordon": "Route no new work to a node; what runs there goes on.",
    "uncordon": "Route work to a node again.",
    "drain": "Let a node finish what it runs, then leave the cluster. Final. `deadline_s`: when it goes at the latest.",
}


def node_routes(exchange: Exchange, nodes: NodesPort) -> APIRouter:
    """`{node}` is an id, its first 4 digits or more, or a host name."""
    routes = APIRouter(prefix="/v1/nodes")
    for order in ORDERS:
        _ordering(routes, exchange, nodes, order)
    return routes


def _ordering(routes: APIRouter, exchange: Exchange, nodes: NodesPort, order: Order) -> None:
    async def give(request: Request, node: str) -> Response:
        who = exchange.who(request)
        who.must("operate")
        wanted: DrainRequest = read(DrainRequest, await exchange.body(request))
        return await exchange.run(lambda: Json(dict(nodes.order(node, order, who.user, wanted.deadline_s))))

    give.__doc__, give.__name__ = _WHAT[order], order
    body = pages.json_body(DrainRequest) if order == "drain" else None
    routes.post(f"/{{node}}/{order}", **page(_NODE, body=body))(give)
