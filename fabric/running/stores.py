"""What running needs of the artefact store: working directories out, logs, results and checkpoints in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fabric import mirror, packing
from fabric.artefacts import ArtefactStore, Digest, digest_of
from fabric.errors import UserError
from fabric.stored_log import StoredLog


class RunStore:
    """Every call may raise FabricError. `cache`: a directory of this machine for payloads that were fetched."""

    def __init__(self, url: str, cache: Path) -> None:
        self._store = ArtefactStore(url)
        self._cache = cache / "cache"

    def unpack(self, digest: str, into: Path) -> None:
        """Unpack a stored working directory."""
        packing.unpack(self.localise(digest), into)

    def localise(self, digest: str) -> Path:
        """A file of this machine that holds the artefact; kept, so that the next call costs nothing."""
        return self._store.localise(Digest(digest), self._cache)

    def append(self, key: str, data: bytes, at: int) -> int:
        """Add to a log at byte `at`; its length then."""
        return StoredLog(self._store, key).append(data, at)

    def upload(self, file: Path, key: str) -> None:
        self._store.upload(key, file, digest_of(file))

    def write_bytes(self, key: str, body: bytes) -> None:
        """Whole or not at all."""
        self._store.write_bytes(key, body)

    def read_bytes(self, key: str) -> bytes | None:
        """None where there is nothing under that key."""
        try:
            return self._store.read_bytes(key)
        except UserError as error:
            if error.code != "artefact_not_found":
                raise
            return None

    def sync_up(self, folder: Path, key: str) -> bool:
        """Whether there was a file to mirror."""
        return mirror.sync_up(self._store, folder, key).num_files > 0

    def sync_down(self, key: str, folder: Path) -> None:
        """Bring the files back; what else lies in `folder` stays."""
        if not folder.exists() or not any(folder.iterdir()):
            mirror.sync_down(self._store, key, folder)
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            mirror.sync_down(self._store, key, Path(beside))
            shutil.copytree(beside, folder, symlinks=True, dirs_exist_ok=True)

    def remove(self, key: str) -> None:
        self._store.delete(key)
