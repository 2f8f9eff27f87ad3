"""`fabric tiers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound

if TYPE_CHECKING:
    from fabric.config import FabricConfig


@click.command(cls=FabricCommand)
@click.option("--all", "is_all", is_flag=True, help="The whole catalogue, also flavors without a node; -o json adds every figure's source.")
@address_option
@output_option
@click.pass_obj
def tiers(settings: Settings, is_all: bool, address: str | None, output: str) -> None:
    """The flavors of every tier: nodes, units, slots (calls of one unit and one CPU at once), price and peaks of one unit.

    With --all no fabric needs to run; its nodes are counted where one does.
    """
    from fabric.tiers import catalogue_tiers, format_tiers

    config = load(settings).config
    if is_all and not _runs(address, config):
        document = catalogue_tiers(config)
    else:
        with joined(config, address) as client:
            document = ray_bound("fabric.status").read_tiers(client, is_all=is_all)
    emit(document, output, lambda: format_tiers(document))


def _runs(address: str | None, config: FabricConfig) -> bool:
    """Whether there is a fabric to ask."""
    from fabric import twin
    from fabric.config import address_from_environment

    return bool(address or address_from_environment() or twin.running(config))
