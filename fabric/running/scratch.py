"""Clears the directories that attempts left on a node when their runner was killed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fabric.running.order import lease_name, parse_attempt

OLD_S = 3600.0


def sweep(scratch: Path, is_held: Callable[[str], bool], now_s: float | None = None) -> list[str]:
    """Remove what is older than an hour and belongs to no lease; the names of those attempts. Drivers of Ray's own jobs
    hold no lease: theirs stay a day."""
    now_s = time.time() if now_s is None else now_s
    swept = []
    for folder in scratch.iterdir() if scratch.is_dir() else ():
        key = parse_attempt(folder.name)
        if key is None:
            continue
        old_s = 24 * OLD_S if (folder / "driver").exists() else OLD_S
        if now_s - folder.stat().st_mtime > old_s and not is_held(lease_name(*key)):
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder.name)
    return swept
