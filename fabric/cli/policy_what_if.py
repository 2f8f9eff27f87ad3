"""`fabric policy what-if`."""

from __future__ import annotations

from pathlib import Path

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.policy import read_file
from fabric.cli.session import emit, output_option


@click.command(name="what-if", cls=FabricCommand)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="Jobs submitted in this time before the newest one.")
@output_option
@click.pass_obj
def what_if(settings: Settings, file: Path, since: str, output: str) -> None:
    """Replay recorded jobs under the policy in force and under the one in FILE (- reads standard input), side by side.

    The fabric does it aside, one at a time and for 10 minutes at most; nothing is applied. Ctrl-C ends it there, too.
    """
    answer = client(settings).what_if(read_file(file).decode(errors="replace"), since, on_progress=_Progress())
    emit(answer.as_json(), output, lambda: str(answer))


class _Progress:
    """A line on stderr every few seconds of a long run."""

    EVERY_S = 5.0

    def __init__(self) -> None:
        from time import monotonic

        self._clock = monotonic
        self._next_s = monotonic() + self.EVERY_S

    def __call__(self, frac: float) -> None:
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + self.EVERY_S
            click.echo(f"replayed {100 * frac:.0f} %", err=True)
