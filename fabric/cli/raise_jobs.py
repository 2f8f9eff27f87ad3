"""`fabric raise`."""

from __future__ import annotations

from typing import Any

import click

from fabric.cli.job_names import post_each
from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option


@click.command("raise", cls=FabricCommand)
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@click.option("--priority", required=True, metavar="CLASS", help="A priority class of the policy; '' is the one that the policy gives it.")
@output_option
@click.pass_obj
def raise_jobs(settings: Settings, names: tuple[str, ...], priority: str, output: str) -> None:
    """Give jobs that have not ended another priority class, by name or id, or all of an array by its id.

    What waits takes its new place at once; the class of what runs says for whom it has to leave.
    """
    done, refused = post_each(client(settings).api, names, "priority", {"priority": priority})
    emit({"jobs": done}, output, lambda: "\n".join(map(_line, done)))
    if refused is not None:
        raise refused


def _line(job: dict[str, Any]) -> str:
    from fabric.job_ids import short_id

    place = f", #{job['position']} of those that wait" if job["position"] is not None else ""
    return f"{job['name']} ({short_id(job['id'])}) is of class {job['priority'] or '-'}{place}"
