"""`fabric status`."""

from __future__ import annotations

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound


@click.command(cls=FabricCommand)
@address_option
@output_option
@click.pass_obj
def status(settings: Settings, address: str | None, output: str) -> None:
    """Every node of the fabric: health, used/total of what Ray counts, measured use, leases, and what idles per hour."""
    from fabric.status_form import format_status

    with joined(load(settings).config, address) as client:
        document = ray_bound("fabric.status").read_status(client)
    emit(document, output, lambda: format_status(document))
