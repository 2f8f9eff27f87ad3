"""The registry: versions, aliases and the bytes behind them. Everything is checked here, whoever asks.

Invariants: a version's bytes are in the artefact store before its row is written, so that what is registered can be deployed; what
fails half-way leaves no row; a version that is deployed or has an alias is not deleted.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from fabric.artefacts import ArtefactStore, Digest
from fabric.errors import RejectedError, UnknownNameError
from fabric.registry.limits import MAX_WHY, check_metrics, check_new, check_signature, check_text
from fabric.registry.names import LATEST, check_alias, check_name, check_word
from fabric.registry.ports import ServedPort, VersionsPort
from fabric.registry.query import Page, Query
from fabric.registry.signature import Signature
from fabric.registry.version import STATES, By, ModelVersion, NewVersion, RegisteredModel, State

MAX_PIECE_BYTES = 8 * 2**20


class Registry:
    """For many threads. Every method raises what its port does: UnavailableError, RuntimeFault (`storage_full`, `storage_failed`).

    Those that take a name raise UserError (`bad_name`) and UnknownNameError (`unknown_model`); a version, `unknown_version`; those that
    change something, RejectedError (`forbidden`) where the model belongs to another user.
    """

    def __init__(self, rows: VersionsPort, artefacts: ArtefactStore, served: ServedPort) -> None:
        self._rows = rows
        self.artefacts = artefacts
        self._served = served

    # -- changes -------------------------------------------------------------------------------------------------------------

    def register(self, name: str, new: NewVersion, by: By, *, now_s: float) -> ModelVersion:
        """The next version of `name`; the sizes of its files are what the store has. `now_s`: wall clock.

        Raises: UserError (`bad_…`; `artefact_not_found` where a file is not in the store).
        """
        check_new(name, new)
        sizes = {digest: self.artefacts.size_of(Digest(digest)) for digest in {file.digest for file in new.files}}
        files = tuple(sorted((replace(file, size_bytes=sizes[file.digest]) for file in new.files), key=lambda file: file.path))
        return self._rows.register(name, replace(new, files=files), by, now_s)

    def set_aliases(self, name: str, aliases: Mapping[str, int | None], by: By) -> RegisteredModel:
        """All of them in one step, or none. None takes an alias away. Raises: UserError (`bad_alias`)."""
        for alias in aliases:
            check_alias(alias)
        return self._rows.set_aliases(check_name(name), aliases, by)

    def mark(self, name: str, number: int, state: State, by: By, *, why: str = "") -> ModelVersion:
        """Deprecate a version, or make it active again: `latest` and a search pass over one that is deprecated."""
        if state not in STATES:
            raise UnknownNameError.of("state", state, STATES)
        return self._rows.mark(check_name(name), number, state, check_text("why", why, MAX_WHY), by)

    def set_metrics(self, name: str, number: int, metrics: Mapping[str, float | None], by: By) -> ModelVersion:
        """Those that are named; None takes one away. Raises: UserError (`bad_metrics`)."""
        check_metrics(metrics)
        return self._rows.set_metrics(check_name(name), number, metrics, by)

    def learn_signature(self, name: str, number: int, signature: Signature) -> ModelVersion:
        """What a replica found, of a version that was registered without one. One that is known stays."""
        check_signature(signature)
        return self._rows.learn_signature(check_name(name), number, signature)

    def delete(self, name: str, number: int, by: By) -> None:
        """The version is gone, its number is never given again; its bytes stay, which others may share.

        Raises: RejectedError (`version_served`, `version_aliased`).
        """
        if number in self._served(check_name(name)):
            raise RejectedError(
                f"{name}:{number} is deployed",
                code="version_served",
                hint=f"`fabric model show {name}`; deploy another, or delete the model",
            )
        self._rows.delete(name, number, by)

    # -- questions -----------------------------------------------------------------------------------------------------------

    def model(self, name: str) -> RegisteredModel:
        return self._rows.model(check_name(name))

    def aliases_of(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        """The aliases of each model that is registered; one that is not is left out."""
        return self._rows.aliases_of(names)

    def find(self, name: str, word: str = LATEST) -> ModelVersion:
        """A version by its number, an alias, or `latest` (the highest active number). Raises: UserError (`bad_version`)."""
        return self._rows.find(check_name(name), check_word(word))

    def discover(self, query: Query) -> Page:
        return self._rows.discover(query)

    # -- bytes ---------------------------------------------------------------------------------------------------------------

    def has(self, digest: str) -> bool:
        """Raises: UserError (`bad_key`)."""
        return self.artefacts.has(Digest(digest))

    def receiving(self, digest: str) -> AbstractContextManager[Callable[[bytes], object]]:
        """Take the bytes of a file in pieces; they are there when the block ends well. Raises: UserError (`bad_key`, `file_changed`)."""
        return self.artefacts.receiving(Digest(digest))

    def piece(self, name: str, word: str, path: str, offset: int, max_bytes: int = MAX_PIECE_BYTES) -> bytes:
        """Bytes of one file of a version from `offset` on; none behind its end. Raises: UnknownNameError (`unknown_file`)."""
        digests = {file.path: file.digest for file in self.find(name, word).files}
        if path not in digests:
            raise UnknownNameError.of("file", path, digests)
        with self.artefacts.open(Digest(digests[path])) as file:
            file.seek(offset)
            return file.read(min(max_bytes, MAX_PIECE_BYTES))

    def fetch(self, name: str, word: str, folder: Path) -> Path:
        """The files of a version below `folder`, each whole; the one to load, or the folder."""
        found = self.find(name, word)
        for file in found.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{uuid.uuid4().hex}")
            try:
                blob = self.artefacts.localise(Digest(file.digest), aside)
                os.replace(blob, target)  # noqa: PTH105 (Path.replace does the same, and reads as if it changed the text)
            finally:
                if aside.is_dir():
                    aside.rmdir()
        return folder / found.main if found.main else folder


def nothing_served(name: str) -> tuple[int, ...]:
    """`ServedPort` where no model is served."""
    return ()
