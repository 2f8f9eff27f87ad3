"""Columns of numbers that grow by appending, as numpy arrays, and words as small numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_ROWS = 1024


class Grown:
    """Columns of one length: `columns` names each with its numpy type. `view(name)`: [rows], writable, good until the next `add`."""

    def __init__(self, **columns: str) -> None:
        self.num_rows = 0
        self._columns: dict[str, npt.NDArray[Any]] = {name: np.zeros(LEAST_ROWS, kind) for name, kind in columns.items()}

    def add(self, **values: float) -> int:
        """One row, of all columns; its number."""
        row, self.num_rows = self.num_rows, self.num_rows + 1
        for name, value in values.items():
            column = self._columns[name]
            if row >= len(column):
                column = self._columns[name] = np.concatenate([column, np.zeros_like(column)])
            column[row] = value
        return row

    def set(self, row: int, **values: float) -> None:
        for name, value in values.items():
            self._columns[name][row] = value

    def get(self, row: int, name: str) -> Any:
        return self._columns[name][row].item()

    def view(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][: self.num_rows]

    def keep(self, is_kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Drop all other rows; for each old row its new number, -1 where it is gone."""
        renumbered = np.where(is_kept, np.cumsum(is_kept) - 1, -1)
        for name in self._columns:
            kept = self.view(name)[is_kept]
            self._columns[name] = np.concatenate([kept, np.zeros(max(LEAST_ROWS, len(kept) // 2), kept.dtype)])
        self.num_rows = int(is_kept.sum())
        return renumbered


class Words:
    """Words by number, in the order in which they were first met."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        """A new word gets the next number."""
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self.all)
            self.all.append(word)
        return found

    def known(self, word: str) -> int:
        """-1: it was never met."""
        return self._numbers.get(word, -1)
