"""Pure: the bars and marks of a window of the timeline, as many as can be told apart and no more.

Leases shorter than a pixel that lie in one pixel of a lane become one bar; where there are still more than `MAX_BARS`, the pixel is
doubled until there are not. No Python loop goes over all leases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fabric.console.job_table import JobTable, Mask
from fabric.console.lease_book import ENDS, MARKS, MIXED, LeaseBook

MAX_BARS = 8_000
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Window(NamedTuple):
    """Wall-clock seconds; `width`: pixels."""

    from_s: float
    to_s: float
    width: int

    @property
    def pixel_s(self) -> float:
        return (self.to_s - self.from_s) / self.width


class Index:
    """The leases and marks of a book by node, made anew when the book has changed."""

    def __init__(self, book: LeaseBook) -> None:
        self._book = book
        self._version = -1
        self._leases = self._marks = _ByNode(np.zeros(0, np.int64), 0)

    def leases(self, nodes: Sequence[int]) -> tuple[Ints, Ints]:
        """(lease, position in `nodes`) of all leases of these nodes."""
        self._renew()
        return self._leases.of(nodes)

    def marks(self, nodes: Sequence[int]) -> tuple[Ints, Ints]:
        self._renew()
        return self._marks.of(nodes)

    def _renew(self) -> None:
        if self._version != self._book.version:
            num_nodes = len(self._book.nodes.all)
            self._leases = _ByNode(self._book.leases.view("node"), num_nodes)
            self._marks = _ByNode(self._book.marks.view("node"), num_nodes)
            self._version = self._book.version


class _ByNode:
    def __init__(self, node_of: npt.NDArray[Any], num_nodes: int) -> None:
        small = node_of.astype(np.int16) if num_nodes < 2**15 else node_of  # numpy sorts small numbers by their digits
        self._order = np.argsort(small, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(node_of, minlength=num_nodes))])

    def of(self, nodes: Sequence[int]) -> tuple[Ints, Ints]:
        spans = [self._order[self._starts[node] : self._starts[node + 1]] if node >= 0 else self._order[:0] for node in nodes]
        if not spans:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(spans), np.repeat(np.arange(len(spans)), [len(span) for span in spans])


def bars(
    book: LeaseBook, index: Index, table: JobTable, nodes: Sequence[int], window: Window, now_s: float, seen: Mask | None
) -> list[Any]:
    """`[[row, lane, from_s, to_s, num, job_id, name, user, state]]`, see `docs/console.md`. `nodes`: numbers of the book, row by row."""
    which, row = index.leases(nodes)
    from_s, to_s, jobs = book.leases.view("from_s")[which], book.leases.view("to_s")[which], book.leases.view("job")[which]
    is_in = (from_s <= window.to_s) & (np.minimum(to_s, now_s) >= window.from_s)
    if seen is not None:
        is_in &= seen[jobs]
    which, row, from_s, to_s = which[is_in], row[is_in], from_s[is_in], np.minimum(to_s[is_in], np.maximum(now_s, from_s[is_in]))
    lane, state = book.leases.view("lane")[which], book.leases.view("state")[which]
    group, starts, counts = _grouped(row, lane, from_s, to_s, window)
    low, high = state[group], state[group]
    first = group[starts]
    merged = np.where(np.minimum.reduceat(low, starts) == np.maximum.reduceat(high, starts), low[starts], MIXED) if len(starts) else low
    begins = np.minimum.reduceat(from_s[group], starts) if len(starts) else from_s
    ends = np.maximum.reduceat(to_s[group], starts) if len(starts) else to_s
    job_of = book.leases.view("job")[which[first]].tolist()
    columns = (row[first], lane[first], np.round(begins, 3), np.round(ends, 3), counts, merged)
    rows = table.rows
    return [
        [at, on, begin, end, num, *((rows[job].id, rows[job].name, rows[job].user) if num == 1 else (None, "", "")), ENDS[how]]
        for at, on, begin, end, num, how, job in zip(*(column.tolist() for column in columns), job_of, strict=True)
    ]


def _grouped(row: Ints, lane: Ints, from_s: Floats, to_s: Floats, window: Window) -> tuple[Ints, Ints, Ints]:
    """(order, where each group starts in it, its size); groups are bars."""
    num, pixel_s = len(row), window.pixel_s
    if not num:
        none = np.zeros(0, np.int64)
        return none, none, none
    num_lanes = int(lane.max()) + 1
    while True:
        pixel = np.floor(np.maximum(from_s - window.from_s, 0.0) / pixel_s).astype(np.int64)
        is_short = to_s - from_s < pixel_s
        num_pixels = int(pixel.max()) + 1
        # A long bar is a group of its own: numbers above all pixels of its lane's short ones.
        key = (row * num_lanes + lane) * (num_pixels + num) + np.where(is_short, pixel, num_pixels + np.arange(num))
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=key[order[0]] - 1))
        if len(starts) <= MAX_BARS or num_pixels == 1:
            return order, starts, np.diff(starts, append=num)
        pixel_s *= 2


def marks(book: LeaseBook, index: Index, table: JobTable, nodes: Sequence[int], window: Window, seen: Mask | None) -> list[Any]:
    """`[[row, at_s, kind, num, job_id, name]]`; of one kind in one pixel of a row they are one."""
    which, row = index.marks(nodes)
    at_s, jobs = book.marks.view("at_s")[which], book.marks.view("job")[which]
    is_in = (at_s >= window.from_s) & (at_s <= window.to_s)
    if seen is not None:
        is_in &= seen[jobs]
    which, row, at_s = which[is_in], row[is_in], at_s[is_in]
    if not len(which):
        return []
    kind, pixel_s = book.marks.view("kind")[which].astype(np.int64), window.pixel_s
    while True:
        pixel = np.floor((at_s - window.from_s) / pixel_s).astype(np.int64)
        key = (row * len(MARKS) + kind) * (int(pixel.max()) + 1) + pixel
        _, first, counts = np.unique(key, return_index=True, return_counts=True)
        if len(first) <= MAX_BARS or int(pixel.max()) == 0:
            break
        pixel_s *= 2
    job_of = book.marks.view("job")[which[first]].tolist()
    columns = (row[first], np.round(at_s[first], 3), kind[first], counts)
    rows = table.rows
    return [
        [at, when, MARKS[what], num, *((rows[job].id, rows[job].name) if num == 1 else (None, ""))]
        for at, when, what, num, job in zip(*(column.tolist() for column in columns), job_of, strict=True)
    ]
