"""`fabric tiers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound

if TYPE_CHECKING:
    from fabric.config import FabricConfig


@click.command(cls=FabricCommand)
@click.option("--all", "is_all", is_flag=True, help="The whole catalogue, also flavors without a node; -o json adds every figure's source.")
@click.option("--for", "workload", type=click.Path(path_type=Path), metavar="FILE", help="Where the models and training of FILE should go.")
@address_option
@output_option
@click.pass_obj
def tiers(settings: Settings, is_all: bool, workload: Path | None, address: str | None, output: str) -> None:
    """The flavors of every tier: nodes, units, slots (calls of one unit and one CPU at once), price and peaks of one unit.

    With --all no fabric needs to run; its nodes are counted where one does.

    With --for, which flavors should serve and train what a YAML file describes: `services:` by name, each with requests_per_s, domain
    and, by flavor, measured: {single_ms, items_per_s}; `training:` with work_per_s, domain and measured rates; `units:` by flavor
    (those of the fabric that runs where it is left out).
    """
    from fabric.tiers import catalogue_tiers, format_tiers

    config = load(settings).config
    if workload is not None:
        _plan(workload, config, address, output)
        return
    if is_all and not _runs(address, config):
        document = catalogue_tiers(config)
    else:
        with joined(config, address) as client:
            document = ray_bound("fabric.status").read_tiers(client, is_all=is_all)
    emit(document, output, lambda: format_tiers(document))


def _plan(path: Path, config: FabricConfig, address: str | None, output: str) -> None:
    from fabric.tier_answer import format_tier_plan, tier_plan_json
    from fabric.tiering import Supply, plan_tiers
    from fabric.workload import read_workload
    from pools.flavors import load_catalogue

    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    asked = read_workload(path, catalogue)
    units = asked.units if asked.units is not None else _units(config, address)
    supply = [Supply(catalogue[name], count, catalogue[name].usd_per_h) for name, count in units.items()]
    document = tier_plan_json(plan_tiers(asked.services, asked.loads, supply), asked.services, asked.loads, supply)
    emit(document, output, lambda: format_tier_plan(document))


def _units(config: FabricConfig, address: str | None) -> dict[str, int]:
    """What the ready nodes of the fabric that runs have, in whole units."""
    with joined(config, address) as client:
        document: dict[str, Any] = ray_bound("fabric.status").read_tiers(client, is_all=False)
    return {row["flavor"]: int(row["units"]) for tier in document["tiers"] for row in tier["flavors"]}


def _runs(address: str | None, config: FabricConfig) -> bool:
    """Whether there is a fabric to ask."""
    from fabric import twin
    from fabric.config import address_from_environment

    return bool(address or address_from_environment() or twin.running(config))
