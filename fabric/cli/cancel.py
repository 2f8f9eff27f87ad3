"""`fabric cancel`."""

from __future__ import annotations

from typing import Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option
from fabric.errors import FabricError


@click.command(cls=FabricCommand)
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@output_option
@click.pass_obj
def cancel(settings: Settings, names: tuple[str, ...], output: str) -> None:
    """Cancel jobs. One that runs gets SIGTERM and its grace first; one that has ended stays as it is."""
    from fabric.api_client import job_path

    api = client(settings).api
    done: list[dict[str, Any]] = []
    refused: FabricError | None = None
    for name in names:
        try:
            done.append(api.post(job_path(name, "cancel")))
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


def _line(job: dict[str, Any]) -> str:
    from fabric.job_ids import short_id

    state = job["state"]
    said = "is cancelled" if state == "CANCELLED" else f"had ended: {state}" if state in ("SUCCEEDED", "FAILED") else "is being stopped"
    return f"{job['name']} ({short_id(job['id'])}) {said}"
