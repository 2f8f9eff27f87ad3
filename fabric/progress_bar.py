"""Progress bars for people, on stderr; nothing in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One line that moves."""

    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress = progress
        self._row = progress.add_task(label, total=total)

    def set(self, num_done: int) -> None:
        self._progress.update(self._row, completed=num_done)


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Bar]:
    """`label ━━━━ 12/100 0:00:03 0:00:20` until the block ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bar(progress, label, total)
