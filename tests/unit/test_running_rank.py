"""A rank's directory on this machine: real processes, no Ray."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from fabric.job import JobId, LaunchSpec
from fabric.running.order import Order
from fabric.running.rank import LocalRank
from fabric.running.stores import RunStore
from fabric.running.warm import WarmPool


def _ended_ranks(folder: Path, num_ranks: int) -> list[LocalRank]:
    store = RunStore(f"file://{folder}/store", folder)
    how = LaunchSpec("program", command="echo $RANK")
    ranks = []
    for rank in range(num_ranks):
        order = Order(1, JobId("j"), 1, f"try-{rank}", "program", how, rank=rank, world_size=num_ranks, scratch=str(folder / "scratch"))
        ranks.append(LocalRank(order, store, WarmPool(0).run, "node", threading.Event()))
        ranks[-1].begin()
    until_s = time.monotonic() + 30
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert [rank.poll().outcome for rank in ranks] == ["ok"] * num_ranks
    return ranks


def test_the_last_rank_to_leave_takes_the_attempts_directory_along(tmp_path: Path) -> None:
    first, last = _ended_ranks(tmp_path, 2)
    attempt = tmp_path / "scratch" / "j.1"
    first.close()
    assert [entry.name for entry in attempt.iterdir()] == ["1"]
    last.close()
    assert not attempt.exists()


def test_a_rank_closes_where_another_has_removed_the_directory_first(tmp_path: Path) -> None:
    (rank,) = _ended_ranks(tmp_path, 1)
    shutil.rmtree(tmp_path / "scratch" / "j.1")
    rank.close()
