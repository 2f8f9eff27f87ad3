"""Reads what a program says of its progress, and what of it a checkpoint keeps.

A checkpoint keeps what was done when its directory last changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """Work units since the job began; `checkpointed` None: no checkpoint yet."""

    done: float
    total: float | None = None
    checkpointed: float | None = None

    @property
    def is_short(self) -> bool:
        """Whether the program itself says that there is work left."""
        return self.total is not None and self.done < self.total


class ProgressFile:
    """`kept`: what the restored checkpoint stands for, where one was restored."""

    def __init__(self, file: Path, checkpoint_dir: Path, kept: float | None = None) -> None:
        self._file = file
        self._checkpoint_dir = checkpoint_dir
        self._checkpointed = kept
        self._changed_ns = newest_change_ns(checkpoint_dir)
        self._last: Progress | None = None

    def read(self) -> Progress | None:
        """The last word, or None before the first. Lines that are no progress are passed over."""
        changed_ns = newest_change_ns(self._checkpoint_dir)
        word = self._last_word()
        if word is None:
            return self._last
        if changed_ns > self._changed_ns:
            self._changed_ns = changed_ns
            self._checkpointed = word[0]
        self._last = Progress(word[0], word[1], self._checkpointed)
        return self._last

    def _last_word(self) -> tuple[float, float | None] | None:
        try:
            with self._file.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
                lines = file.read().split(b"\n")
        except OSError:
            return None
        whole = lines if lines[-1:] == [b""] or len(lines) == 1 else lines[:-1]
        for line in reversed(whole):
            if (word := _parse(line)) is not None:
                return word
        return None


def newest_change_ns(folder: Path) -> int:
    """When a directory, or what lies directly in it or one level below, last changed; 0 where it is empty or missing."""
    try:
        entries = list(folder.iterdir())
        if not entries:
            return 0
        below = [inner for entry in entries if entry.is_dir() for inner in entry.iterdir()]
        return max(path.stat().st_mtime_ns for path in (folder, *entries, *below))
    except OSError:  # files come and go while a checkpoint is written
        return 0


def _parse(line: bytes) -> tuple[float, float | None] | None:
    try:
        word = json.loads(line)
        total = word.get("total")
        return max(0.0, float(word["done"])), None if total is None else float(total)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
