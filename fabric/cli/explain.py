"""`fabric explain`: a job; the tasks that are known, one task's routes now, or one call as it was measured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound
from fabric.errors import FabricError, UnavailableError, UnknownNameError

if TYPE_CHECKING:
    from fabric.config import FabricConfig
    from fabric.job_handle import Answer

_CALL_ID = re.compile(r"[0-9a-f]{48}")


@click.command(cls=FabricCommand)
@click.argument("what", metavar="[JOB|TASK|CALL_ID]", required=False)
@address_option
@output_option
@click.pass_obj
def explain(settings: Settings, what: str | None, address: str | None, output: str) -> None:
    """Why a job waits or runs where it does, or why a task goes where it goes, by the figures of now.

    JOB (its id, the last 8 digits of it, or its name): why, who is ahead, when it starts and what would start it sooner. TASK: its
    ranking for each size of argument. CALL_ID (the 48 digits of a Ray task id): what that call took, and the ranking now. None
    of them: all tasks that the fabric has seen.
    """
    config = load(settings).config
    is_call = what is not None and _CALL_ID.fullmatch(what.lower()) is not None
    answer: Any = None if what is None or is_call else _of_job(config, what)
    if answer is None:
        answer = _of_tasks(config, address, what, is_call=is_call)
    emit(answer.as_json(), output, lambda: str(answer))


def _of_job(config: FabricConfig, name: str) -> Answer | None:
    """None: no job has that name, or there is no job plane to ask."""
    from fabric.jobs import jobs_of

    try:
        return jobs_of(config).find(name).explain()
    except FabricError as error:
        if isinstance(error, UnavailableError) or error.code in ("unknown_job", "token_not_found"):
            return None
        raise


def _of_tasks(config: FabricConfig, address: str | None, what: str | None, *, is_call: bool) -> Any:
    reading = ray_bound("fabric.prospect")
    with joined(config, address) as client:
        if what is None:
            return reading.read_tasks(client)
        if is_call:
            return reading.read_call(client, what.lower())
        try:
            return reading.read_task(client, what)
        except UnknownNameError as error:
            message = f"no job and no task is called {what!r}"
            raise UnknownNameError(message, code=error.code, hint=error.hint or "`fabric queue` lists jobs", name=what) from error
