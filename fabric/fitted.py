"""Tables that always fit: a column never grows past its most, the last one takes what is left, and what is too long is elided."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

WIDTH, LEAST, MOST = 100, 60, 160
GAP = "  "


def elided(text: str, most: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: max(0, most - 1)] + "…"


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, most: Mapping[str, int], right: Sequence[str] = (), width: int | None = None
) -> str:
    """A table no wider than the terminal (100 columns where there is none). `most`: column -> its most characters; one
    without takes what the others leave."""
    width = width or min(MOST, max(LEAST, shutil.get_terminal_size((WIDTH, 24)).columns))
    widths = [min(most.get(name, width), max([len(name), *(len(row[i]) for row in rows)])) for i, name in enumerate(columns)]
    over = sum(widths) + len(GAP) * (len(columns) - 1) - width
    if over > 0:
        widest = max(range(len(columns)), key=lambda i: (columns[i] not in most, widths[i]))
        widths[widest] = max(8, widths[widest] - over)

    def line(cells: Sequence[str]) -> str:
        shown = [elided(cell, widths[i]) for i, cell in enumerate(cells)]
        padded = [cell.rjust(widths[i]) if columns[i] in right else cell.ljust(widths[i]) for i, cell in enumerate(shown)]
        return GAP.join(padded).rstrip()

    return "\n".join([line(columns), "─" * (sum(widths) + len(GAP) * (len(columns) - 1)), *(line(row) for row in rows)])
