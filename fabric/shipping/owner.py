"""Who ships to a place of the store: one small object with the highest epoch that claimed it, renewed while its owner lives.

A store offers no compare-and-swap that all kinds have. So ownership only decides who goes on, never whether a copy is whole: each
owner writes under names of its own. The higher epoch wins a race, by claiming again; the lower one sees it at its next look.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError, RejectedError
from fabric.shipping.places import folder

BEAT_S = 10.0
WATCH_S = 25.0
"""How long an owner is watched before it is taken for dead: two beats and what a slow store takes."""
STALE_S = 600.0
"""A beat of that age needs no watching, whatever the clocks."""


@dataclass(frozen=True, slots=True)
class Owner:
    """`beat_s`: wall-clock time on its machine. `is_done`: it ended, and all that it had was shipped."""

    epoch: int
    id: str
    host: str
    beat_s: float
    is_done: bool = False


def owner_key(fabric: str) -> str:
    return f"{folder(fabric)}/owner.json"


def read_owner(store: ArtefactStore, fabric: str) -> Owner | None:
    """None: nobody ever claimed it, or what stands there cannot be read. Raises: RuntimeFault (`storage_failed`)."""
    try:
        document = json.loads(store.read_bytes(owner_key(fabric)))
        document.pop("version", None)
        return Owner(**document)
    except FabricError as error:
        if error.code != "artefact_not_found":
            raise
    except (ValueError, TypeError, AttributeError):
        pass
    return None


def write_owner(store: ArtefactStore, fabric: str, owner: Owner) -> None:
    store.write_bytes(owner_key(fabric), json.dumps({"version": 1, **asdict(owner)}).encode())


class Claim:
    """That of one life of a scheduler, for all that it ships. Safe from several threads."""

    def __init__(
        self, store: ArtefactStore, fabric: str, epoch: int, identity: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._fabric, self._clock = store, fabric, clock
        self._mine = Owner(epoch, identity, socket.gethostname(), 0.0)
        self._lock = threading.Lock()
        self._beaten_s: float | None = None

    def is_due(self) -> bool:
        return self._beaten_s is None or self._clock() - self._beaten_s >= BEAT_S

    def hold(self, *, is_done: bool = False, now: bool = False) -> None:
        """Before anything is written, and while there is nothing to write: look whether the place is still ours and say that we
        live, every `BEAT_S`. Raises: RejectedError (`superseded`), RuntimeFault (`storage_failed`)."""
        with self._lock:
            if not (now or is_done or self.is_due()):
                return
            found = read_owner(self._store, self._fabric)
            # The same epoch twice is a disk that was copied: who claimed it last goes on.
            if found is not None and found.id != self._mine.id and found.epoch >= self._mine.epoch:
                self._refuse(found)
            write_owner(self._store, self._fabric, replace(self._mine, beat_s=time.time(), is_done=is_done))
            self._beaten_s = self._clock()

    def _refuse(self, found: Owner) -> None:
        hint = f"end one of both, or give one another `name`; if the other is gone for good, delete {owner_key(self._fabric)} in the store"
        message = f"{self._fabric} is shipped by {found.host} under epoch {found.epoch}: nothing more of this one, {self._mine.epoch}, is"
        raise RejectedError(message, code="superseded", hint=hint, epoch=found.epoch)
