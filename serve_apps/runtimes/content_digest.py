"""Names files by their content; reads them once as long as they do not change."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

_NUM_HEX = 32


def content_digest(files: Sequence[Path], cache: Path) -> str:
    """One digest (32 hex digits) of the names and contents of `files`, remembered in `cache` by place, size, inode and time of change."""
    seen = [[str(file.resolve()), (stat := file.stat()).st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns] for file in files]
    note = cache / "digests" / hashlib.sha256(str(seen[0][0]).encode()).hexdigest()[:_NUM_HEX]
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["seen"] == seen:
            return str(noted["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or one that was cut off: read the files
    digest = _digest(files)
    note.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=note.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        json.dump({"seen": seen, "digest": digest}, opened)
    Path(name).rename(note)
    return digest


def _digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for place, file in enumerate(files):
        with file.open("rb") as opened:
            part = hashlib.file_digest(opened, "sha256").digest()
        # The first file's own name is in no other file; the names of those beside it are.
        total.update((b"" if place == 0 else file.name.encode()) + b"\0" + part)
    return total.hexdigest()[:_NUM_HEX]
