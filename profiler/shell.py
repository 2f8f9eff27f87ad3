"""The profiler actor, named `profiler`: takes measured runs from workers, gives estimates to clients, keeps profiles.

Profiles are saved every `SAVE_S` and at once after an OOM; a restarted profiler loses at most that much. It answers with
estimates; routing is the caller's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from fabric import ray_io
from fabric.config import FabricConfig
from fabric.journal import Journal
from fabric.sizes import bucket
from fabric.types import Fingerprint, Flavor, Run, Variant
from profiler.estimate import Estimator, TaskProfile
from profiler.store import from_document, to_document

STREAM = "profiler"
SAVE_S = 2.0
RECENT_RUNS = 20_000
_log = logging.getLogger(__name__)


class ProfilerShell:
    """Undecorated actor class."""

    def __init__(self, config: FabricConfig, catalogue: Mapping[str, Flavor]) -> None:
        self._config = config
        self._catalogue = dict(catalogue)
        self._journal = Journal(config.database_url)
        self._estimator = Estimator(catalogue)
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Run] = OrderedDict()
        # A version is the wall clock at the change, so that it also grows across a restart of this actor.
        self._versions: dict[str, int] = {}
        self._unsaved: set[str] = set()
        for name, document in self._journal.load(STREAM).items():
            self._estimator.profiles[name] = from_document(document)
            self._versions[name] = time.time_ns()
        threading.Thread(target=self._loop, name="save", daemon=True).start()

    def ping(self) -> str:
        return STREAM

    def settings(self) -> tuple[FabricConfig, dict[str, Flavor]]:
        """What a process needs to attach itself to this fabric."""
        return self._config, self._catalogue

    def record(self, node_id: str, flavor: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Learn from a worker's batch of calls (rows as in `fabric.worker.Row`)."""
        with self._lock:
            for row in rows:
                run = _run(node_id, flavor, *row)
                self._estimator.record(run)
                self._recent[run.call_id] = run
            while len(self._recent) > RECENT_RUNS:
                self._recent.popitem(last=False)
            self._note_changes()

    def remember_oom(self, task: str, variant: str, asked_bytes: int, used_bytes: int, input_bytes: int) -> None:
        with self._lock:
            self._estimator.remember_oom(task, variant, asked_bytes, used_bytes, input_bytes)
            self._note_changes()
        self.save()

    def sync(
        self, described: Mapping[str, tuple[Fingerprint, tuple[Variant, ...]]], known: Mapping[str, int]
    ) -> dict[str, tuple[int, TaskProfile]]:
        """Take what a client saw of its tasks; give back those profiles that are newer than it knows."""
        with self._lock:
            for task, (seen, variants) in described.items():
                self._estimator.describe(task, seen, variants)
            self._note_changes()
            newer = {task: version for task in known if (version := self._versions.get(task, 0)) > known[task]}
            return {task: (version, self._estimator.profiles[task]) for task, version in newer.items()}

    def run_of(self, call_id: str) -> Run | None:
        """The measured run of a call, while it is among the last 20,000."""
        with self._lock:
            return self._recent.get(call_id)

    def runs(self, task: str) -> list[Run]:
        """The measured runs of a task, oldest first, as far as they are among the last 20,000 of all."""
        with self._lock:
            return [run for run in self._recent.values() if run.task == task]

    def profiles(self, task: str | None = None) -> list[TaskProfile]:
        """All profiles, or those of the tasks with this name."""
        with self._lock:
            return [p for name, p in sorted(self._estimator.profiles.items()) if task is None or name == task]

    def save(self) -> int:
        """Write what changed; returns how many profiles that were."""
        with self._lock:
            documents = {task: to_document(self._estimator.profiles[task]) for task in self._unsaved}
            self._unsaved.clear()
        if documents:
            self._journal.save(STREAM, documents)
        return len(documents)

    def _note_changes(self) -> None:
        for task in self._estimator.dirty:
            self._versions[task] = max(time.time_ns(), self._versions.get(task, 0) + 1)
            self._unsaved.add(task)
        self._estimator.dirty.clear()

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(SAVE_S)
            try:
                self.save()
            except Exception as error:  # a full disk must not end the profiler; the next change tries again
                _log.warning("save failed: %s", ray_io.describe_exception(error))


def _run(
    node_id: str,
    flavor: str,
    call_id: str,
    task: str,
    variant: str,
    wall_s: float,
    cpu_s: float,
    peak_bytes: int,
    outcome: Any,
    size: int,
    user: str,
    queue: str,
    *more: Any,
) -> Run:
    """A row of `fabric.worker` with where it ran."""
    where = (call_id, task, bucket(size), variant, flavor, node_id)
    return Run(*where, wall_s, cpu_s, peak_bytes, outcome, user, queue, size, *more)
