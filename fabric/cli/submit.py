"""`fabric submit`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.job_options import COMMAND, client, job_options, request_of
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option

if TYPE_CHECKING:
    from fabric.job_handle import Job


@click.command(cls=FabricCommand, context_settings=COMMAND)
@click.option("--array", type=int, metavar="N", help="So many jobs, told apart by FABRIC_ARRAY_INDEX.")
@click.option("--key", metavar="TEXT", help="Idempotency key: the same one gives the same job.")
@click.option("-f", "--follow", is_flag=True, help="Show its output until it has ended; exit 1 if it failed.")
@output_option
@job_options
@click.pass_obj
def submit(
    settings: Settings, /, command: tuple[str, ...], array: int | None, key: str | None, follow: bool, output: str, **given: Any
) -> int:
    """Submit a job. It is on the fabric's disk when this returns.

    The words of COMMAND are passed on as they are; one word alone is a shell command line:
    `fabric submit -q research --gpus A100:4 -- python train.py --lr 3`, `fabric submit 'make data && make train'`.
    """
    from fabric.job_handle import Job
    from fabric.job_ids import short_id

    if follow and array is not None:
        raise click.UsageError("--follow is for one job; `fabric queue --array ID` shows an array")
    jobs = client(settings)
    made = jobs.submit(request_of(command, given, array, key))
    found = [made] if isinstance(made, Job) else list(made)
    document = {"array_id": None if isinstance(made, Job) else made.id, "ids": [job.id for job in found]}

    def text() -> str:
        if isinstance(made, Job):
            short = short_id(made.id)
            return f"submitted {made.id}\n`fabric logs -f {short}` follows it, `fabric explain {short}` says why it waits"
        return f"submitted {len(found)} jobs, array {made.id}\n`fabric queue --array {made.id}` shows them"

    emit(document, output, text)
    return follow_job(found[0]) if follow else 0


def follow_job(job: Job) -> int:
    """Its output until it has ended; then how that was, on stderr. The exit code: 0 where it succeeded, else 1."""
    from fabric.job_handle import failure_of
    from fabric.job_ids import short_id

    try:
        for chunk in job.logs(follow=True).chunks():
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        job.wait()
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on; `fabric logs -f {short_id(job.id)}`, `fabric cancel {short_id(job.id)}`", err=True)
        raise
    info = job.info()
    if info["state"] == "SUCCEEDED":
        return 0
    click.echo(failure_of(info).render(), err=True)
    return 1
