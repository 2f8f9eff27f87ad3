"""The API's tokens, as the console checks them: read from the journal, never written.

A token that was revoked opens nothing a few seconds later at the latest; one that was just made opens at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from fabric.api.tokens import DocumentsPort, Principal, Tokens
from fabric.errors import FabricError, UserError

FRESH_S = 3.0
ANEW_S = 0.5
"""A token that is not known is looked for again, but not more often than this: guessing must not cost the disk anything."""


class KnownTokens:
    """For many threads."""

    def __init__(self, documents: DocumentsPort) -> None:
        self._documents = _ReadOnly(documents)
        self._lock = threading.Lock()
        self._tokens = Tokens(self._documents)
        self.read_s = time.monotonic()

    def principal(self, token: str) -> Principal:
        """Raises: UserError (`unauthorized`)."""
        self._renew(FRESH_S)
        try:
            return self._tokens.principal(token)
        except UserError:
            if not self._renew(ANEW_S):
                raise
        return self._tokens.principal(token)

    def _renew(self, older_s: float) -> bool:
        with self._lock:
            if time.monotonic() - self.read_s < older_s:
                return False
            self.read_s = time.monotonic()
            try:
                self._tokens = Tokens(self._documents)
            except FabricError:  # the journal is away for a moment: what was known holds
                return False
            return True


class _ReadOnly:
    def __init__(self, documents: DocumentsPort) -> None:
        self._documents = documents

    def load(self, stream: str) -> dict[str, Any]:
        return self._documents.load(stream)

    def save(self, stream: str, new: Mapping[str, Any]) -> None:
        raise AssertionError(f"the console writes nothing, and no {stream}")
