"""Output of a job that was preempted: its attempts read as one log."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.artefacts import ArtefactStore
from fabric.stored_log import StoredLog, read_joined

FIRST, SECOND = b"a" * 300_000, b"b" * 5


@pytest.mark.parametrize("limit", [1, 100_000, 2**20])
def test_logs_that_follow_one_another_read_as_one_from_any_byte(tmp_path: Path, limit: int) -> None:
    store = ArtefactStore(f"file://{tmp_path}")
    logs = [StoredLog(store, f"logs/j/{number}/0.log") for number in (1, 2, 3)]
    logs[0].append(FIRST, 0)
    logs[2].append(SECOND, 0)  # the second attempt said nothing
    whole = FIRST + SECOND
    for offset in (0, 299_999, 300_000, 300_003, 300_005):
        assert read_joined(logs, offset, limit) == whole[offset : offset + limit]
    assert read_joined(logs[:1], 0, limit) == FIRST[:limit]
