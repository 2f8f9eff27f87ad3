"""Tables that always fit: a column never grows past its most, the last one takes what is left, and what is too long is elided."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

WIDTH, LEAST, MOST = 100, 60, 160
GAP = "  "
LEAST_CELL = 6


def elided(text: str, most: int) -> str:
    """One line of at most so many characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else line[: max(0, most - 1)] + "…"


def printable(text: str) -> str:
    """Without what would steer a terminal, but for line ends: other users write names, commands and messages."""
    return "".join(each if each.isprintable() or each == "\n" else "�" for each in text)


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, most: Mapping[str, int], right: Sequence[str] = (), width: int | None = None
) -> str:
    """A table no wider than the terminal (100 columns where there is none). `most`: column -> its most characters; one
    without takes what the others leave."""
    width = width or min(MOST, max(LEAST, shutil.get_terminal_size((WIDTH, 24)).columns))
    widths = [min(most.get(name, width), max([len(name), *(len(row[i]) for row in rows)])) for i, name in enumerate(columns)]
    while (over := sum(widths) + len(GAP) * (len(columns) - 1) - width) > 0:
        # The one that takes what is left gives way first, then the widest.
        widest = max(range(len(columns)), key=lambda i: (widths[i] > LEAST_CELL, columns[i] not in most, widths[i]))
        if widths[widest] <= LEAST_CELL:
            break
        widths[widest] = max(LEAST_CELL, widths[widest] - (over if columns[widest] not in most else 1))

    def line(cells: Sequence[str]) -> str:
        shown = [elided(cell, widths[i]) for i, cell in enumerate(cells)]
        padded = [cell.rjust(widths[i]) if columns[i] in right else cell.ljust(widths[i]) for i, cell in enumerate(shown)]
        return GAP.join(padded).rstrip()

    return "\n".join([line(columns), "─" * (sum(widths) + len(GAP) * (len(columns) - 1)), *(line(row) for row in rows)])
