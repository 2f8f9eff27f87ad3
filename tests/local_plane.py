"""The job plane as it is in a fabric, on this machine alone: its own journal and store on disk, its jobs run here, no Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fabric import codec
from fabric.api.tokens import Tokens
from fabric.artefacts import ArtefactStore
from fabric.job import JobId, LaunchSpec
from fabric.job_events import NodesSeen
from fabric.journal import Journal
from fabric.journal.epochs import next_epoch
from fabric.plane.driver import STREAM, WallClock
from fabric.plane.plane import JobPlane
from fabric.plane.restore import restore
from fabric.scheduler.core import Core
from fabric.states import JobState
from tests.fleet import COLD, FLAVORS, HOT, node
from tests.local_runner import IdleRunner, LocalRunner

POLICY = {"apiVersion": "scheduling.example.com/v1", "kind": "HybridPolicy", "metadata": {"name": "default"}, "spec": {}}
NODES = (node("big-1", HOT, CPU=8.0, GPU=2.0, memory=float(64 << 30)), node("cpus-1", COLD, CPU=8.0, memory=float(64 << 30)))

UNTIL_S = 20.0


class LocalPlane:
    """`plane` over `NODES`, with version 1 of the policy in force; without the optimiser. `runs=False`: nothing ever starts. Where the
    folder has a journal, it goes on from there."""

    def __init__(self, folder: Path, *, runs: bool = True, store_folder: Path | None = None) -> None:
        self.store_folder = store_folder or folder / "store"
        self.journal = Journal(f"sqlite:///{folder / 'journal.db'}")
        store = ArtefactStore(f"file://{self.store_folder}")
        epoch, restored = next_epoch(self.journal), restore(self.journal, Core(FLAVORS, is_planning=False))
        self.plane = JobPlane(restored.core, self.journal, store, WallClock(restored.last_s), epoch, asides=restored.asides)
        self.runner = LocalRunner(self.plane, folder / "scratch") if runs else IdleRunner(self.plane)
        self.plane.start(self.runner)
        self.plane.driver.tell_and_wait(NodesSeen(NODES))
        if not self.plane.policy_history()[0]["version"]:
            self.plane.policy_apply(POLICY, "fabric")
        self.tokens = Tokens(self.journal)

    def how(self, job_id: JobId | str) -> LaunchSpec:
        """How a job is started, as it lies on disk."""
        return codec.decode(LaunchSpec, self.journal.document(STREAM, job_id)["how"])

    def blobs(self) -> list[Path]:
        """The files of what was uploaded, whole or not."""
        return [file for name in ("blobs", ".aside") for file in (self.store_folder / name).rglob("*") if file.is_file()]

    def until_running(self, job_id: JobId | str) -> None:
        with self.plane.driver.changed:
            job = self.plane.core.jobs[JobId(job_id)]
            assert self.plane.driver.changed.wait_for(lambda: job.state is JobState.RUNNING, UNTIL_S), job

    def close(self) -> None:
        self.runner.close()
        self.plane.close()
        self.journal.close()


@contextmanager
def a_plane(folder: Path, *, runs: bool = True) -> Iterator[LocalPlane]:
    made = LocalPlane(folder, runs=runs)
    try:
        yield made
    finally:
        made.close()
