"""Runners without Ray, for a job plane in a test: the ranks of a real attempt on this machine, or nothing at all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from fabric.job import Grant, JobId, JobSpec, LaunchSpec, Outcome
from fabric.job_events import JobEnded, JobVacated
from fabric.plane.plane import JobPlane
from fabric.running import checkpoints
from fabric.running.gang import Gang
from fabric.running.launching import Attempt, Surroundings, orders
from fabric.running.outbox import Outbox
from fabric.running.rank import LocalRank
from fabric.running.stores import RunStore
from fabric.running.warm import WarmPool

END_S = 30.0
Key = tuple[JobId, int]


class LocalRunner:
    """See `fabric.ports.RunnerPort`. Every rank runs here, whatever node it was given; what Ray would do, lease and find the
    host, is left out. `folder` is its scratch."""

    def __init__(self, plane: JobPlane, folder: Path) -> None:
        self._catalogue = plane.catalogue
        self._store = RunStore(plane.store.url, folder)
        self._around = Surroundings("", plane.store.url, str(folder))
        self._outbox = Outbox(plane.report, plane.epoch)
        self._warm = WarmPool(0)
        self._led: dict[Key, tuple[Gang, threading.Thread]] = {}

    def launch(self, epoch: int, spec: JobSpec, how: LaunchSpec, attempt: int, grant: Grant) -> None:
        if (spec.job_id, attempt) in self._led:
            return
        woken = threading.Event()
        made = orders(Attempt(epoch, spec, how, attempt, grant), self._catalogue[grant.option.flavor], grant.nodes, self._around)
        ranks = [LocalRank(order, self._store, self._warm.run, node, woken) for order, node in zip(made, grant.nodes, strict=True)]

        def mark_kept(of: Sequence[int], done: float) -> None:
            checkpoints.mark_kept(self._store, spec.job_id, attempt, of, done)

        gang = Gang(made[0], ranks, self._outbox.put, mark_kept, woken)
        thread = threading.Thread(target=gang.run, name=made[0].attempt_name, daemon=True)
        self._led[spec.job_id, attempt] = gang, thread
        thread.start()

    def preempt(self, epoch: int, job_id: JobId, attempt: int) -> None:
        self._led[job_id, attempt][0].preempt()

    def kill(self, epoch: int, job_id: JobId, attempt: int, outcome: Outcome) -> None:
        self._led[job_id, attempt][0].kill(outcome)

    def living(self) -> Sequence[Key]:
        return [key for key, (_, thread) in self._led.items() if thread.is_alive()]

    def close(self) -> None:
        """End what runs, and say nothing of it."""
        for gang, _ in self._led.values():
            gang.abandon()
        for _, thread in self._led.values():
            thread.join(END_S)


class IdleRunner:
    """Takes every attempt and starts none of them: jobs stay admitted until they are told to leave."""

    def __init__(self, plane: JobPlane) -> None:
        self._outbox = Outbox(plane.report, plane.epoch)

    def launch(self, epoch: int, spec: JobSpec, how: LaunchSpec, attempt: int, grant: Grant) -> None: ...

    def preempt(self, epoch: int, job_id: JobId, attempt: int) -> None:
        self._outbox.put(JobVacated(job_id, attempt))

    def kill(self, epoch: int, job_id: JobId, attempt: int, outcome: Outcome) -> None:
        self._outbox.put(JobEnded(job_id, attempt, outcome))

    def living(self) -> Sequence[Key]:
        return ()

    def close(self) -> None: ...
