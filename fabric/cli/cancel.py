"""`fabric cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option
from fabric.errors import FabricError

if TYPE_CHECKING:
    from fabric.api_client import ApiClient


@click.command(cls=FabricCommand)
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@output_option
@click.pass_obj
def cancel(settings: Settings, names: tuple[str, ...], output: str) -> None:
    """Cancel jobs, by name or id, or all of an array by its id.

    One that runs gets SIGTERM and its grace first; one that has ended stays as it is.
    """
    from fabric.api_client import job_path

    api = client(settings).api
    done: list[dict[str, Any]] = []
    refused: FabricError | None = None
    for name in names:
        try:
            done += [api.post(job_path(each, "cancel")) for each in _members(api, name) or [name]]
        except FabricError as error:
            if error.exit_status == 4:
                raise
            # The others are cancelled all the same.
            if refused is not None:
                click.echo(refused.render(), err=True)
            refused = error
    emit({"jobs": done}, output, lambda: "\n".join(map(_line, done)))
    if refused is not None:
        raise refused


def _members(api: ApiClient, name: str) -> list[str]:
    """The jobs of the array of that id; none where it is no array's."""
    from fabric.job_ids import is_job_id

    found = api.get("/v1/jobs", {"array": name, "limit": 10_000})["jobs"] if is_job_id(name) else []
    return [job["id"] for job in found]


def _line(job: dict[str, Any]) -> str:
    from fabric.job_ids import short_id

    state = job["state"]
    said = "is cancelled" if state == "CANCELLED" else f"had ended: {state}" if state in ("SUCCEEDED", "FAILED") else "is being stopped"
    return f"{job['name']} ({short_id(job['id'])}) {said}"
