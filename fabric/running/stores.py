"""What running needs of the artefact store: working directories out, logs, results and checkpoints in."""

from __future__ import annotations

import tarfile
from pathlib import Path

from fabric.artefacts import ArtefactStore, Digest
from fabric.errors import UserError
from fabric.stored_log import StoredLog


class RunStore:
    """Every call may raise FabricError. `cache`: a directory of this machine for payloads that were fetched."""

    def __init__(self, url: str, cache: Path) -> None:
        self._store = ArtefactStore(url)
        self._cache = cache / "cache"

    def unpack(self, digest: str, into: Path) -> None:
        """Unpack a stored working directory."""
        with self._store.open(Digest(digest)) as file, tarfile.open(fileobj=file) as archive:
            archive.extractall(into, filter="data")

    def localise(self, digest: str) -> Path:
        """A file of this machine that holds the artefact; kept, so that the next call costs nothing."""
        return self._store.localise(Digest(digest), self._cache)

    def append(self, key: str, data: bytes, at: int) -> int:
        """Add to a log at byte `at`; its length then."""
        return StoredLog(self._store, key).append(data, at)

    def upload(self, file: Path, key: str) -> None:
        self._store.write_bytes(key, file.read_bytes())

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

    def sync_up(self, folder: Path, key: str) -> None:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self._store.write_bytes(f"{key}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def sync_down(self, key: str, folder: Path) -> None:
        """Bring the files back; what else lies in `folder` stays."""
        for entry in self._store.entries(key):
            target = folder / entry.key[len(key) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._store.read_bytes(entry.key))

    def remove(self, key: str) -> None:
        self._store.delete(key)
