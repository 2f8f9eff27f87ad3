"""The last lines that the replicas of one version wrote, from Serve's own log files."""

from __future__ import annotations

from collections import deque
from pathlib import Path


def last_log_lines(folder: Path, app: str, max_lines: int) -> str:
    """Of all replicas of a Serve application whose logs lie in `folder`, those that are gone included: each line after its replica's
    id, in the order of the files' last change. Empty where there are none."""
    files = [file for file in folder.glob(f"replica_{app}_*") if file.is_file()]
    lines: deque[str] = deque(maxlen=max_lines)
    for file in sorted(files, key=lambda file: file.stat().st_mtime):
        replica = file.stem.rpartition("_")[2]
        with file.open(encoding="utf-8", errors="replace") as opened:
            # No file gives more than its share of what is kept.
            lines.extend(f"{replica} {line.rstrip()}\n" for line in deque(opened, maxlen=max_lines))
    return "".join(lines)
