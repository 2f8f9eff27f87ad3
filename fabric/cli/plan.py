"""`fabric plan`."""

from __future__ import annotations

from typing import Any

import click

from fabric.cli.job_options import COMMAND, client, job_options, request_of
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, output_option


@click.command(cls=FabricCommand, context_settings=COMMAND)
@output_option
@job_options
@click.pass_obj
def plan(settings: Settings, /, command: tuple[str, ...], output: str, **given: Any) -> None:
    """What would become of a job: wait, run, finish and cost on each flavor, and which would be taken. Submits nothing.

    It takes the options of `fabric submit`: `fabric plan --gpus any -- python train.py`.
    """
    answer = client(settings).plan(request_of(command, given))
    emit(answer.as_json(), output, lambda: str(answer))
