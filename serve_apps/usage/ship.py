"""Carries finished usage files from a machine to the artefact store, those of dead processes too. A file is removed once it is there."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fabric.artefacts import ArtefactStore
from serve_apps.usage.log import whole_lines

PREFIX = "usage"


def ship(folder: Path, store: ArtefactStore, *, current: Path | None = None) -> int:
    """Ship what no living process writes any more, and what this one has finished; how many files. May be repeated, and run by
    several processes at once: a file has one key, so that whoever comes second writes the same again.

    Raises: RuntimeFault (`storage_failed`, `storage_full`).
    """
    num_shipped = 0
    for file in finished(folder, current):
        try:
            content, day = whole_lines(file.read_bytes()), datetime.fromtimestamp(file.stat().st_mtime, UTC).date()
        except FileNotFoundError:  # shipped by another process meanwhile
            continue
        if content:
            store.write_bytes(f"{PREFIX}/{day.isoformat()}/{file.stem}.jsonl.gz", gzip.compress(content, mtime=0))
            num_shipped += 1
        file.unlink(missing_ok=True)
    return num_shipped


def finished(folder: Path, current: Path | None) -> Iterator[Path]:
    """Files that nobody writes: their process is gone, or has begun a later one."""
    files = sorted(folder.glob("*.jsonl"))
    last = {_owner(file): file for file in sorted([*files, *([current] if current else [])], key=_number)}
    for file in files:
        if file == current:
            continue
        _, pid, _ = _parts(file)
        if file != last[_owner(file)] or not Path(f"/proc/{pid}").exists():
            yield file


def _owner(file: Path) -> tuple[str, int]:
    owner, pid, _ = _parts(file)
    return owner, pid


def _number(file: Path) -> int:
    return _parts(file)[2]


def _parts(file: Path) -> tuple[str, int, int]:
    owner, pid, number = file.stem.rsplit(".", 2)
    return owner, int(pid), int(number)
