"""`fabric profiles`: export, import, forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound

if TYPE_CHECKING:
    from profiler.estimate import TaskProfile

COMMANDS = {
    "export": ("fabric.cli.profiles:export", "Write what was measured of all tasks to a Parquet file."),
    "import": ("fabric.cli.profiles:import_", "Take in what another fabric measured."),
    "forget": ("fabric.cli.profiles:forget", "Drop what was measured of a task."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def profiles() -> None:
    """What was measured of the fabric's tasks, as a file. `fabric explain` shows it."""


@click.command(cls=FabricCommand)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@address_option
@output_option
@click.pass_obj
def export(settings: Settings, file: Path, address: str | None, output: str) -> None:
    """Write all profiles to FILE (Parquet): a row for each task, size of arguments, variant and flavor."""
    from profiler.parquet import write_parquet

    found = _ask(settings, address, "profiles")
    document = {"file": str(file), "tasks": len(found), "rows": write_parquet(file, found)}
    emit(document, output, lambda: f"{len(found)} task{'s' * (len(found) != 1)}, {document['rows']} rows written to {file}")


@click.command(cls=FabricCommand, name="import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@address_option
@output_option
@click.pass_obj
def import_(settings: Settings, file: Path, address: str | None, output: str) -> None:
    """Take in the profiles of FILE. Of what both fabrics measured, the figure with more runs stays; runs of other code are left out.

    FILE: what `export` wrote; or a published table, from which the fabric learns how accelerators compare before it has run anything:
    Gavel's throughputs (.json) or MLPerf Inference results (.csv).
    """
    found = _read(file)
    taken = _ask(settings, address, "merge", found)
    document = {"file": str(file), "tasks": len(found), "rows_taken": taken}
    emit(document, output, lambda: f"{len(found)} task{'s' * (len(found) != 1)} read, {taken} rows taken over")


@click.command(cls=FabricCommand)
@click.argument("task")
@address_option
@output_option
@click.pass_obj
def forget(settings: Settings, task: str, address: str | None, output: str) -> None:
    """Drop every measured run of TASK (its name, or name@hash): it is measured anew."""
    from fabric.errors import UnknownNameError
    from fabric.types import name_of

    if not (dropped := _ask(settings, address, "forget", task)):
        known = {name_of(profile.task) for profile in _ask(settings, address, "profiles")}
        raise UnknownNameError.of("task", task, known)
    emit({"task": task, "versions": dropped}, output, lambda: f"{task}: {dropped} version{'s' * (dropped != 1)} forgotten")


def _read(file: Path) -> list[TaskProfile]:
    kind = file.suffix.lower()
    if kind not in (".json", ".csv"):
        from profiler.parquet import read_parquet

        return read_parquet(file)
    from fabric.throughputs import read_throughputs
    from fabric.types import Device
    from pools.flavors import flavor_of_device, load_catalogue
    from profiler.published import published_profiles
    from profiler.tables import gavel_rows, mlperf_rows, read_mlperf

    catalogue = load_catalogue()
    if kind == ".csv":
        rows = mlperf_rows(read_mlperf(file), lambda name: flavor_of_device(catalogue, Device("gpu", name, 1)))
        return published_profiles(rows, "mlperf", "inference")
    known = {key: rate for key, rate in read_throughputs(file).items() if key[0] in catalogue}
    return published_profiles(gavel_rows(known), "gavel", "training")


def _ask(settings: Settings, address: str | None, method: str, *args: Any) -> Any:
    ray_io = ray_bound("fabric.ray_io")
    with joined(load(settings).config, address):
        return ray_io.ask(getattr(ray_io.actor("profiler"), method).remote(*args))
