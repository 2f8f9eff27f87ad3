"""`fabric cancel`."""

from __future__ import annotations

from typing import Any

import click

from fabric.cli.job_names import post_each
from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option


@click.command(cls=FabricCommand)
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@output_option
@click.pass_obj
def cancel(settings: Settings, names: tuple[str, ...], output: str) -> None:
    """Cancel jobs, by name or id, or all of an array by its id.

    One that runs gets SIGTERM and its grace first; one that has ended stays as it is.
    """
    done, refused = post_each(client(settings).api, names, "cancel")
    emit({"jobs": done}, output, lambda: "\n".join(map(_line, done)))
    if refused is not None:
        raise refused


def _line(job: dict[str, Any]) -> str:
    from fabric.job_ids import short_id

    state = job["state"]
    said = "is cancelled" if state == "CANCELLED" else f"had ended: {state}" if state in ("SUCCEEDED", "FAILED") else "is being stopped"
    return f"{job['name']} ({short_id(job['id'])}) {said}"
