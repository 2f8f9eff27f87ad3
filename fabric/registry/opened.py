"""The registry of a configuration: the journal's database and the fabric's artefact store, put together."""

from __future__ import annotations

from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig
from fabric.registry.ports import ServedPort
from fabric.registry.registry import Registry, nothing_served
from fabric.registry.sql import SqlVersions
from fabric.shipping.bring_back import bring_back


def open_registry(config: FabricConfig, served: ServedPort = nothing_served) -> Registry:
    """Where the database and the store can be reached: on the fabric's own machines. Others use the API.

    `served`: says what is deployed; without it a version that is deployed can be deleted. Raises: UnavailableError, ConfigError; and as
    `bring_back`.
    """
    bring_back(config)
    return Registry(SqlVersions(config.database_url), ArtefactStore(config.storage), served)
