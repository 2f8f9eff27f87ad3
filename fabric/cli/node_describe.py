"""`fabric node labels` and `fabric node resources`: what this machine says of itself to Ray. Neither needs Ray."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, load, output_option

if TYPE_CHECKING:
    from fabric.config import FabricConfig
    from fabric.types import Device
    from pools.describe import NodeDescription
    from pools.discovery import Discovery

flavor_option = click.option("--flavor", metavar="NAME", help="Be this flavor, whatever was found.")


@click.command(cls=FabricCommand)
@flavor_option
@output_option
@click.pass_obj
def labels(settings: Settings, flavor: str | None, output: str) -> None:
    """Print this machine's labels: ray start --labels "$(fabric node labels)"."""
    from pools.describe import format_labels

    found, described = _look(settings, flavor)
    emit(description_json(found, described), output, lambda: format_labels(described.labels))


@click.command(cls=FabricCommand)
@flavor_option
@output_option
@click.pass_obj
def resources(settings: Settings, flavor: str | None, output: str) -> None:
    """Print the accelerators that Ray does not see by itself: ray start --resources "$(fabric node resources)"."""
    from pools.describe import format_resources

    found, described = _look(settings, flavor)
    emit(description_json(found, described), output, lambda: format_resources(described.resources))


def _look(settings: Settings, flavor: str | None) -> tuple[Discovery, NodeDescription]:
    """What was found here; problems and hints go to stderr, so that stdout can stand in a command line."""
    from pools.describe import describe_node
    from pools.discovery import discover
    from pools.flavors import load_catalogue

    config = load(settings).config
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    found = discover(catalogue, declared_devices(config))
    described = describe_node(found, catalogue, flavor=flavor, tiers=config.tier_names)
    for problem in found.problems:
        click.echo(f"problem: {problem}", err=True)
    for hint in described.hints:
        click.echo(f"hint: {hint}", err=True)
    return found, described


def declared_devices(config: FabricConfig) -> list[Device]:
    """The cards under `devices:` in fabric.yaml."""
    from fabric.types import Device

    return [
        Device(
            kind=card.kind,
            name=card.name,
            count=card.count,
            memory_bytes=None if card.memory_gib is None else int(card.memory_gib * 2**30),
            resource=card.resource,
            flavor=card.flavor,
        )
        for card in config.devices
    ]


def description_json(found: Discovery, described: NodeDescription) -> dict[str, Any]:
    """`{tier, flavor, labels, resources, reason, hints, devices, problems}`."""
    return {
        "tier": described.tier,
        "flavor": described.flavor,
        "labels": dict(described.labels),
        "resources": dict(described.resources),
        "reason": described.reason,
        "hints": list(described.hints),
        "devices": [dataclasses.asdict(device) for device in found.devices],
        "problems": list(found.problems),
    }
