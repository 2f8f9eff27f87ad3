"""A job's checkpoint in the store: mirrored whole by every rank, made the valid one at the end by one small file.

`checkpoints/<job>/<attempt>/<rank>/…` holds the files, `checkpoints/<job>/latest.json` names the attempt and ranks that
count. Invariant: what `latest.json` names is complete, whatever died in between. Every rank gets the union of all ranks'
files back (rank 0's where two wrote the same), so the next attempt may have another number of ranks.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fabric.errors import FabricError
from fabric.running.order import checkpoint_key
from fabric.running.stores import RunStore

_LATEST = "latest.json"


def keep(store: RunStore, job_id: str, attempt: int, rank: int, folder: Path) -> bool:
    """Mirror one rank's directory; False where there is nothing in it."""
    return store.sync_up(folder, checkpoint_key(job_id, attempt, rank))


def mark_kept(store: RunStore, job_id: str, attempt: int, ranks: Sequence[int], done: float) -> None:
    """From now on this attempt's mirror is what comes back; the one before it is removed."""
    before = _latest(store, job_id)
    word = {"attempt": attempt, "ranks": sorted(ranks), "done": done}
    store.write_bytes(checkpoint_key(job_id, _LATEST), json.dumps(word).encode())
    if before is not None and before["attempt"] != attempt:
        with contextlib.suppress(FabricError, OSError):  # it only takes space
            store.remove(checkpoint_key(job_id, before["attempt"]))


def restore(store: RunStore, job_id: str, folder: Path) -> float | None:
    """Bring the last kept checkpoint into `folder`; the work that it stands for, None where there is none."""
    if (word := _latest(store, job_id)) is None:
        return None
    for rank in sorted(word["ranks"], reverse=True):
        store.sync_down(checkpoint_key(job_id, word["attempt"], rank), folder)
    return float(word["done"])


def _latest(store: RunStore, job_id: str) -> dict[str, Any] | None:
    body = store.read_bytes(checkpoint_key(job_id, _LATEST))
    return None if body is None else dict(json.loads(body))
