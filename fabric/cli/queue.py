"""`fabric queue`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option

if TYPE_CHECKING:
    from fabric.jobs import Jobs

ACTIVE = "PENDING,ADMITTED,RUNNING,PREEMPTING"
CLEAR = "\x1b[H\x1b[2J"


@click.command(cls=FabricCommand)
@click.option("--me", is_flag=True, help="Only your own.")
@click.option("-q", "--queue", "queue_name", metavar="QUEUE", help="Only those of one queue.")
@click.option("-u", "--user", metavar="USER", help="Only those of one user.")
@click.option("--state", metavar="STATE,…", help="Only those in these states.")
@click.option("--array", metavar="ID", help="Only those of one array.")
@click.option("-a", "--all", "with_ended", is_flag=True, help="Those that have ended, too.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="At most so many.")
@click.option("-w", "--watch", is_flag=True, help="Show it anew every --every seconds, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, metavar="SECONDS", help="With --watch.")
@output_option
@click.pass_obj
def queue(
    settings: Settings, me: bool, queue_name: str | None, user: str | None, state: str | None, array: str | None, with_ended: bool,
    limit: int, watch: bool, every: float, output: str,
) -> None:  # fmt: skip
    """Jobs: those that run, then those that wait by their place, with --all then what ended.

    A job is named by its name, its id, or the 8 digits of it that are shown here.
    """
    jobs = client(settings)
    states = state or (None if with_ended or array else ACTIVE)
    query = {"mine": "true" if me else None, "queue": queue_name, "user": user, "state": states, "array": array, "limit": limit}
    _show(jobs, query, output)
    while watch:
        time.sleep(every)
        if sys.stdout.isatty():
            click.echo(CLEAR, nl=False)
        _show(jobs, query, output)


def _show(jobs: Jobs, query: dict[str, Any], output: str) -> None:
    from fabric.job_form import format_listing

    document = jobs.api.get("/v1/jobs", query)
    hide = [column for column, chosen in (("user", query["mine"] or query["user"]), ("queue", query["queue"])) if chosen]
    emit(document, output, lambda: format_listing(document, hide=hide))
