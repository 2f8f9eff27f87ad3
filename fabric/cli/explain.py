"""`fabric explain`: the tasks that are known, one task's routes now, or one call as it was measured."""

from __future__ import annotations

import re

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound

_CALL_ID = re.compile(r"[0-9a-f]{48}")


@click.command(cls=FabricCommand)
@click.argument("what", metavar="[TASK|CALL_ID]", required=False)
@address_option
@output_option
@click.pass_obj
def explain(settings: Settings, what: str | None, address: str | None, output: str) -> None:
    """Why a task goes where it goes, by the figures of now.

    TASK: its ranking for each size of argument. CALL_ID (the 48 digits of a Ray task id): what that call took, and the
    ranking now. Neither: all tasks that the fabric has seen.
    """
    reading = ray_bound("fabric.prospect")
    with joined(load(settings).config, address) as client:
        if what is None:
            answer = reading.read_tasks(client)
        elif _CALL_ID.fullmatch(what.lower()):
            answer = reading.read_call(client, what.lower())
        else:
            answer = reading.read_task(client, what)
    emit(answer.as_json(), output, lambda: str(answer))
