"""How figures look to people: short durations, prices, tables that fit a terminal."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 160


def duration(seconds: float | None) -> str:
    """`0`, `12 µs`, `3.4 ms`, `1.2 s`, `5 m 3 s`, `2 h 4 m`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 1e-6:
        return "0"
    # Half a unit of the third digit below each limit, so that 999.9 ms is "1 s" and not "1e+03 ms".
    for limit, unit, name in ((0.9995e-3, 1e-6, "µs"), (0.9995, 1e-3, "ms"), (59.95, 1.0, "s")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    seconds = max(seconds, 60.0)
    if seconds < 3600:
        return f"{int(seconds // 60)} m {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} m"


def usd(amount: float | None) -> str:
    """`-` where unknown; small amounts keep two significant digits."""
    if amount is None:
        return "-"
    if amount == 0:
        return "$0"
    return f"${amount:.2f}" if amount >= 0.01 else f"${amount:.1e}"


def percent_band(log_sd: float) -> str:
    """One standard deviation of a log-normal figure, as a factor: `×1.3`."""
    return f"×{math.exp(min(log_sd, 10.0)):.2g}"


def amount(value: float) -> str:
    return f"{value:g}"


def gib(num_bytes: float | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / 2**30:.3g} GiB"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A plain table, no wider than the terminal; numbers flush right."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out = io.StringIO()
    width = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    Console(file=out, width=width, color_system=None, markup=False, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
