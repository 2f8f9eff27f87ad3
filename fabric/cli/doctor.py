"""`fabric doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, load, output_option, ray_bound
from fabric.errors import FabricError

if TYPE_CHECKING:
    from fabric.config import FabricConfig
    from fabric.doctor.check import Check
    from fabric.types import Flavor


@click.command(cls=FabricCommand)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@address_option
@output_option
@click.pass_context
def doctor(ctx: click.Context, file: Path | None, address: str | None, output: str) -> None:
    """Check this machine, and the cluster where one runs or --address names one. Ends with 1 where a check fails.

    With FILE, a cluster file: what would fail at `fabric up FILE`, on which machine; and, where its cluster runs, whether a stranger
    gets in anywhere. Nothing is started or mended. What is not in order names its cure.
    """
    from fabric.cli.node_describe import declared_devices
    from fabric.doctor.check import format_checks, report_json
    from fabric.doctor.look import look
    from fabric.doctor.machine import check_machine
    from pools.flavors import load_catalogue

    settings: Settings = ctx.obj
    config = load(settings).config
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    if file is not None:
        from fabric.cluster.doctor import examine
        from fabric.cluster.file import read_cluster_file

        checks = examine(read_cluster_file(file), catalogue, lambda line: click.echo(line, err=True))
    else:
        checks = check_machine(look(config, catalogue, declared_devices(config)))
        checks += _cluster_checks(config, catalogue, address)
    emit(report_json(checks), output, lambda: format_checks(checks))
    if any(check.state == "fail" for check in checks):
        ctx.exit(1)


def _cluster_checks(config: FabricConfig, catalogue: dict[str, Flavor], address: str | None) -> list[Check]:
    from fabric import twin
    from fabric.config import address_from_environment
    from fabric.doctor.check import Check
    from fabric.doctor.cluster import check_cluster

    state = twin.running(config)
    wanted = address or address_from_environment() or (state.address if state else None)
    if wanted is None:
        return [Check("cluster", "head", "ok", "no fabric runs here; `fabric up` starts one, --address looks at another")]
    ray_io = ray_bound("fabric.ray_io")
    try:
        ray_io.connect(wanted)
        facts = ray_bound("fabric.doctor.probe").probe(config, ray_io.address())
    except FabricError as error:
        return [Check("cluster", "head", "fail", error.message, error.hint or "`fabric down`, then `fabric up`")]
    finally:
        ray_io.disconnect()
    return check_cluster(facts, catalogue, config.tier_names)
