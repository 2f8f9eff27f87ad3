"""Where profiles are kept on disk: opened whatever state it is in, read once at the start, written as they change.

Invariant: what cannot be read is moved aside, said once, and never stops the profiler; everything in it can be measured again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fabric import codec
from fabric.config import FabricConfig
from fabric.errors import FabricError
from fabric.journal import Journal
from fabric.journal.corruption import set_aside_if_corrupt
from fabric.shipping.bring_back import bring_back
from profiler.estimate import TaskProfile
from profiler.store import from_document

STREAM = "profiler"
UNREADABLE = "profiler-unreadable"
_log = logging.getLogger(__name__)


class ProfileDisk:
    """The profiles' database. `notes`: what a user should know of how it was opened."""

    def __init__(self, config: FabricConfig) -> None:
        """Raises: RuntimeFault `journal` where no database can be had at all."""
        self.notes: list[str] = []
        if (aside := set_aside_if_corrupt(config.profiles_url)) is not None:
            self._say(f"the profiles could not be read and begin anew; the broken file is {aside}")
        for note in bring_back(config):
            self._say(note)
        self._journal = Journal(config.profiles_url)
        self._earlier_url = config.database_url if config.database_url != config.profiles_url else None

    def load(self) -> dict[str, TaskProfile]:
        """All profiles by task; a document that is none is moved to the stream `UNREADABLE`."""
        texts = {**self._of_earlier_releases(), **self._journal.texts(STREAM)}
        profiles: dict[str, TaskProfile] = {}
        broken: dict[str, Any] = {}
        for name, text in texts.items():
            try:
                profiles[name] = from_document(codec.loads(text))
            except (KeyError, TypeError, ValueError) as error:
                broken[name] = {"error": repr(error), "text": text}
        if broken:
            self._journal.save(UNREADABLE, broken)
            self._journal.forget(STREAM, broken)
            self._say(f"{len(broken)} profiles could not be read and begin anew: {', '.join(sorted(broken)[:5])}")
        return profiles

    def save(self, documents: Mapping[str, Any]) -> None:
        """Replace the documents (as `profiler.store` makes them) of these tasks."""
        self._journal.save(STREAM, documents)

    def forget(self, tasks: Iterable[str]) -> None:
        self._journal.forget(STREAM, tasks)

    def _of_earlier_releases(self) -> Mapping[str, str]:
        """Before they had a file of their own, profiles stood in the journal of jobs: they move, once."""
        if self._earlier_url is None:
            return {}
        try:
            earlier = Journal(self._earlier_url)
            texts = earlier.texts(STREAM)
            if texts:
                self._journal.save(STREAM, {name: codec.loads(text) for name, text in texts.items()})
                earlier.forget(STREAM, texts)
            earlier.close()
        except (FabricError, ValueError) as error:
            _log.warning("no profiles of earlier releases: %s", error)
            return {}
        return texts

    def _say(self, note: str) -> None:
        self.notes.append(note)
        _log.warning("%s", note)
