"""The journal of a configuration, from an actor beside it: brought back first where this head has none."""

from __future__ import annotations

from fabric.config import FabricConfig
from fabric.journal import Journal
from fabric.shipping.bring_back import bring_back


def open_journal(config: FabricConfig) -> Journal:
    """Raises: RuntimeFault (`journal`, and as `bring_back`), RejectedError (`owner_alive`)."""
    bring_back(config)
    return Journal(config.database_url)
