"""What of a fabric is shipped, and where to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy.engine import make_url

from fabric.config import FabricConfig

JOURNAL, PROFILES = "journal", "profiles"
_LOCAL = ("file://", "local://")


class Database(NamedTuple):
    name: str
    file: Path


def shipped_databases(config: FabricConfig) -> tuple[Database, ...]:
    """The SQLite files of a head, the journal first; none where shipping is off: set so, no storage_url, or one that is lost with
    state_dir anyway."""
    if config.shipping.enabled == "never" or config.storage_url is None or not _is_elsewhere(config.storage_url, config.state_path):
        return ()
    found = [(JOURNAL, config.database_url)]
    if config.profiles_url != config.database_url:
        found.append((PROFILES, config.profiles_url))
    return tuple(Database(name, file) for name, url in found if (file := sqlite_file(url)) is not None)


def sqlite_file(url: str) -> Path | None:
    """None: another database, which is kept by others, or one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database)).expanduser().absolute()


def _is_elsewhere(storage_url: str, state_path: Path) -> bool:
    if storage_url.startswith("memory://"):
        return False
    for scheme in _LOCAL:
        if storage_url.startswith(scheme):
            folder = Path(storage_url.removeprefix(scheme)).expanduser()
            return not folder.resolve().is_relative_to(state_path.resolve())
    return True
