"""`fabric efficiency`."""

from __future__ import annotations

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option
from fabric.errors import UserError


@click.command(cls=FabricCommand)
@click.argument("job", metavar="[JOB]", required=False)
@click.option("--by", type=click.Choice(["user", "queue"]), help="A row for each.  [default: user]")
@click.option("--tasks", "is_by_task", is_flag=True, help="A row for each task.")
@output_option
@click.pass_obj
def efficiency(settings: Settings, job: str | None, by: str | None, is_by_task: bool, output: str) -> None:
    """What was asked for against what was used, and the dollars that the difference cost; what wastes most comes first.

    JOB is its id, the last 8 digits of it, or its name. Jobs are measured when an attempt ends; of tasks the last 20,000 calls count.
    """
    from fabric.efficiency_form import render_efficiency

    if (job is not None) + (by is not None) + is_by_task > 1:
        raise UserError("a JOB, --by and --tasks exclude each other", code="bad_option", hint="give one of them")
    jobs = client(settings)
    if job is not None:
        answer = jobs.find(job).efficiency()
        emit(answer.as_json(), output, lambda: str(answer))
        return
    document = jobs.api.get("/v1/efficiency", {"by": "task" if is_by_task else by or "user"})
    emit(document, output, lambda: render_efficiency(document))
