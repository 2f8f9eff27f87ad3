"""A growing log in the artefact store, readable from any byte while it is written.

An object store cannot append, so a log is kept as chunks of a fixed size; only the last one is rewritten. Invariants: what is
there is a prefix of the log without a hole; sending a part again changes nothing. One writer per log at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabric.artefacts import ArtefactStore
from fabric.errors import UserError

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class StoredLog:
    """The log at `key` of a store: chunks `key/<first byte>`."""

    store: ArtefactStore
    key: str

    def append(self, data: bytes, at: int) -> int:
        """Write `data` at byte `at`; returns the byte after it. The writer keeps count, and sends again what it is not sure of.

        Raises: UserError (`log_gap`) where the log does not reach up to `at`; RuntimeFault as the store.
        """
        while data:
            start = at - at % CHUNK_BYTES
            piece, data = data[: start + CHUNK_BYTES - at], data[start + CHUNK_BYTES - at :]
            before = self._chunk(start)
            is_begun = bool(before) or start == 0 or len(self._chunk(start - CHUNK_BYTES)) == CHUNK_BYTES
            if not is_begun or len(before) < at - start:
                raise UserError(f"log {self.key} does not reach up to byte {at}", code="log_gap", hint="send what comes before")
            if not before[at - start :].startswith(piece):
                self.store.write_bytes(self._name(start), before[: at - start] + piece)
            at += len(piece)
        return at

    def read(self, offset: int = 0, limit_bytes: int = 2**20) -> bytes:
        """Up to `limit_bytes` from byte `offset` on; empty where there is no more yet, or no log."""
        found = bytearray()
        while len(found) < limit_bytes:
            at = offset + len(found)
            start = at - at % CHUNK_BYTES
            chunk = self._chunk(start)
            found += chunk[at - start :][: limit_bytes - len(found)]
            if len(chunk) < CHUNK_BYTES:
                break
        return bytes(found)

    def size(self) -> int:
        """Bytes so far."""
        return sum(entry.size_bytes for entry in self.store.entries(self.key))

    def _chunk(self, start: int) -> bytes:
        try:
            return self.store.read_bytes(self._name(start))
        except UserError as error:
            if error.code != "artefact_not_found":
                raise
            return b""

    def _name(self, start: int) -> str:
        return f"{self.key}/{start:015d}"


def read_joined(logs: Sequence[StoredLog], offset: int, limit_bytes: int) -> bytes:
    """Bytes of logs that follow one another, as if they were one. Only the last may still grow: a longer one before it would
    shift what comes behind."""
    found, begins = b"", 0
    for number, log in enumerate(logs, 1):
        at = offset + len(found) - begins
        if number == len(logs):
            return found + log.read(at, limit_bytes - len(found)) if at >= 0 else found
        size = log.size()
        if at < size:
            found += log.read(at, limit_bytes - len(found))
            if len(found) >= limit_bytes:
                return found
        begins += size
    return found
