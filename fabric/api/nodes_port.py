"""The seam between the API and the pools: a protocol, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fabric.errors import UnknownNameError
from fabric.node_orders import Order


class NodesPort(Protocol):
    def order(self, name: str, order: Order, by: str, deadline_s: float) -> Mapping[str, Any]:
        """`{node_id, host, tier, flavor, twin, health, changed}` as the order leaves the node; `changed` is false where it was so already.

        Raises: UnknownNameError (`unknown_node`), UserError (`ambiguous_node`), RejectedError (`node_draining`, `head_node`), RuntimeFault
        (`drain_refused`), UnavailableError.
        """
        ...


class NoNodes:
    """Where there are no pools."""

    def order(self, name: str, order: Order, by: str, deadline_s: float) -> Mapping[str, Any]:
        raise UnknownNameError.of("node", name, [])
