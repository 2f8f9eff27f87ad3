"""A head's databases, brought back from the store where this machine has none. Called by whoever opens one, before.

Invariants: a file that is there is never touched; what is put in place is whole, checked, and there in one step; the journal's
epoch is then above that of any life before. An owner that still lives is not robbed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig
from fabric.errors import FabricError, RejectedError
from fabric.journal import Journal
from fabric.journal.epochs import lift_epoch, lifted
from fabric.shipping.copy import Made, make_database, restoring
from fabric.shipping.owner import STALE_S, WATCH_S, Owner, owner_key, read_owner, write_owner
from fabric.shipping.places import Places
from fabric.shipping.plan import JOURNAL, Database, shipped_databases

STORE_WAIT_S = 30.0
_BESIDE = ("-wal", "-shm")
_PARTIAL = ".restoring"
_log = logging.getLogger(__name__)


def bring_back(config: FabricConfig, *, watch_s: float = WATCH_S, store_wait_s: float = STORE_WAIT_S) -> list[str]:
    """Idempotent, and cheap where the files are there. What was done, in words. One process at a time; others wait.

    Raises: RuntimeFault (`copy_corrupt`, `storage_failed` where the store stays away for `store_wait_s`, `restore_failed`),
    RejectedError (`owner_alive`). Profiles that cannot be had are only said: they can be measured again.
    """
    databases = shipped_databases(config)
    if all(database.file.exists() for database in databases):
        return []
    said: list[str] = []
    with _alone(config.state_path):
        for database in databases:
            if database.file.exists():
                continue
            try:
                note = _patiently(lambda one=database: _bring_one(config, one, watch_s), store_wait_s)  # type: ignore[misc]
            except FabricError as error:
                if database.name == JOURNAL:
                    raise
                note = f"{database.name} begin anew: {error.message}"
            if note:
                said.append(note)
                _log.warning("%s", note)
    return said


def _bring_one(config: FabricConfig, database: Database, watch_s: float) -> str | None:
    store, places, file = ArtefactStore(config.storage), Places(config.name, database.name), database.file
    with restoring(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        for left_over in file.parent.glob(f".{file.name}.*{_PARTIAL}*"):
            left_over.unlink()
    owner = read_owner(store, config.name)
    if database.name == JOURNAL and owner is not None:
        _fence(store, config.name, owner, watch_s)
    target = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}{_PARTIAL}")
    began_s = time.monotonic()
    try:
        made = make_database(store, places, target)
        if made is None and (owner is None or database.name != JOURNAL):
            return None
        if database.name == JOURNAL:
            # Also where there is nothing to bring back: an owner had lives, and told of epochs.
            _lift(target, owner.epoch if owner else 0)
        with restoring(file):
            _put_in_place(target, file)
    finally:
        for suffix in ("", *_BESIDE):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    return _said(config, database, made, time.monotonic() - began_s)


def _said(config: FabricConfig, database: Database, made: Made | None, took_s: float) -> str:
    if made is None:
        return f"{config.storage} knows the fabric {config.name}, and has no whole copy of its {database.name}: it begins anew"
    what = f"{database.name} of {config.name} brought back from {config.storage} in {took_s:.1f} s"
    note = f"{what}: copy {made.timeline}/{made.base} with {made.changes} changes"
    return f"{note}; not sound and therefore missing: {'; '.join(made.problems)}" if made.problems else note


def _fence(store: ArtefactStore, fabric: str, owner: Owner, watch_s: float) -> None:
    """Take the place from an owner that is gone, so that it ships nothing more should it come back. Raises: RejectedError."""
    if not owner.is_done and abs(time.time() - owner.beat_s) < STALE_S:
        _log.warning("%s was shipped by %s a moment ago: watched for %.0f s, whether it still is", fabric, owner.host, watch_s)
        threading.Event().wait(watch_s)
        later = read_owner(store, fabric)
        if later is not None and later != owner and not later.is_done:
            raise RejectedError(
                f"the fabric {fabric} is alive on {later.host}, and ships its journal to {store.url}",
                code="owner_alive",
                retryable=True,
                hint="end that one first; for another fabric set another `name`, or shipping: {enabled: never}",
            )
    mine = Owner(lifted(owner.epoch), uuid.uuid4().hex, socket.gethostname(), time.time(), is_done=True)
    try:
        write_owner(store, fabric, mine)
    except FabricError as error:  # a store that may only be read still brings the fabric back
        _log.warning("cannot write %s, so another head of %s would go on shipping: %s", owner_key(fabric), fabric, error.message)


def _lift(journal_file: Path, known: int) -> None:
    journal = Journal(f"sqlite:///{journal_file}")
    try:
        lift_epoch(journal, known)
    finally:
        journal.close()


def _put_in_place(target: Path, file: Path) -> None:
    """SQLite would lay a log that is left of another database over this one."""
    for suffix in _BESIDE:
        stray = file.with_name(file.name + suffix)
        if stray.exists():
            stray.rename(stray.with_name(f"{stray.name}.stray-{uuid.uuid4().hex[:8]}"))
    with target.open("rb") as written:
        os.fsync(written.fileno())
    target.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _patiently(bring: Callable[[], str | None], wait_s: float) -> str | None:
    """While the store is away: to begin with an empty journal would be to lose all."""
    until_s, pause = time.monotonic() + wait_s, threading.Event()
    while True:
        try:
            return bring()
        except FabricError as error:
            if error.code != "storage_failed" or time.monotonic() >= until_s:
                raise
            _log.warning("waiting for the store, which may have the fabric's state: %s", error.message)
        pause.wait(min(1.0, wait_s))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with restoring(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "restore.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
