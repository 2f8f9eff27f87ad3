"""A plane that is closed, or is not the newest: nobody waits for it, and it takes nothing that is not its own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fabric.errors import RejectedError, RuntimeFault
from fabric.job import JobId
from fabric.job_events import JobStarted, NodesSeen
from tests.local_plane import NODES, a_plane

WAIT_S = 10.0


def test_who_tells_a_closed_plane_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    with a_plane(tmp_path, runs=False) as world:
        driver = world.plane.driver
        ends: list[str] = []

        def tell_until_refused() -> None:
            try:
                while True:
                    driver.tell_and_wait(NodesSeen(NODES))
            except RuntimeFault as error:
                ends.append(error.code)

        tellers = [threading.Thread(target=tell_until_refused, daemon=True) for _ in range(4)]
        for teller in tellers:
            teller.start()
        driver.close()
        for teller in tellers:
            teller.join(WAIT_S)
        assert ends == ["closed"] * 4


def test_reports_of_a_later_epoch_are_kept_for_the_later_scheduler(tmp_path: Path) -> None:
    with a_plane(tmp_path, runs=False) as world, pytest.raises(RejectedError, match="epoch") as refused:
        world.plane.report(world.plane.epoch + 1, [JobStarted(JobId("job-1"), 1)])
    assert refused.value.code == "stale_epoch"
    assert refused.value.retryable
