"""A database file that is broken: found out, and moved aside so that a new one can begin.

Only for what can be measured or made again. The journal of jobs is never moved aside: its jobs were promised to be kept.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from sqlalchemy.engine import make_url

MARK = ".corrupt-"
_BESIDE = ("", "-wal", "-shm")


def set_aside_if_corrupt(url: str) -> Path | None:
    """Move an SQLite file away, with what lies beside it, where SQLite cannot read it; where it is now, None: it is well.

    Other databases look after themselves.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    file = Path(str(parsed.database)).expanduser()
    if not file.exists() or _is_well(file):
        return None
    aside = file.with_name(f"{file.name}{MARK}{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def set_aside_files(folder: Path) -> list[str]:
    """What was moved aside in this folder, without what lay beside it."""
    found = (path for path in folder.glob(f"*{MARK}*") if not path.name.endswith(_BESIDE[1:]))
    return sorted(map(str, found))


def _is_well(file: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.OperationalError:  # locked, or no rights: not broken, and its opening says so in its own words
        return True
    except sqlite3.DatabaseError:
        return False
