"""The profiler actor, named `profiler`: takes measured runs from workers, gives estimates to clients, keeps profiles,
names nodes that are slower than their like.

Profiles are saved every `SAVE_S` and at once after an OOM; a restarted profiler loses at most that much. They age once a day.
It answers with estimates; routing is the caller's.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from fabric import ray_io
from fabric.config import FabricConfig
from fabric.errors import FabricError
from fabric.metering import meter
from fabric.metrics.tally import Tally
from fabric.sizes import bucket
from fabric.types import Fingerprint, Flavor, Run, Variant, is_model_task, name_of
from profiler.disk import ProfileDisk
from profiler.efficiency import TaskUse, task_uses
from profiler.estimate import Estimator, TaskProfile
from profiler.roofline import Cost
from profiler.samples import count_run
from profiler.sharing import SharingPace, is_news, shared_forecasts
from profiler.slow_places import SlowPlaces
from profiler.store import to_document
from profiler.stragglers import Straggler

NAME = "profiler"
SAVE_S = 2.0
LOOK_S = 5.0
RECENT_RUNS = 20_000
_log = logging.getLogger(__name__)


class ProfilerShell:
    """Undecorated actor class."""

    def __init__(self, config: FabricConfig, catalogue: Mapping[str, Flavor]) -> None:
        self._config = config
        self._catalogue = dict(catalogue)
        self._disk = ProfileDisk(config)
        self._estimator = Estimator(catalogue)
        self._stragglers = SlowPlaces()
        self._looked_s = 0.0
        self._sharing = SharingPace()
        self._tally = Tally()
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Run] = OrderedDict()
        # A version is the wall clock at the change, so that it also grows across a restart of this actor.
        self._versions: dict[str, int] = {}
        self._unsaved: set[str] = set()
        self._estimator.profiles.update(self._disk.load())
        self._versions.update(dict.fromkeys(self._estimator.profiles, time.time_ns()))
        threading.Thread(target=self._loop, name="save", daemon=True).start()
        meter(self._tally.samples, NAME)

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return NAME

    def ping(self) -> str:
        return NAME

    def settings(self) -> tuple[FabricConfig, dict[str, Flavor]]:
        """What a process needs to attach itself to this fabric."""
        return self._config, self._catalogue

    def record(self, node_id: str, flavor: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Learn from a worker's batch of calls (rows as in `fabric.worker.Row`)."""
        now_s = time.monotonic()
        with self._lock:
            for row in rows:
                run = _run(node_id, flavor, *row)
                self._estimator.record(run)
                self._stragglers.observe(run, now_s)
                self._recent[run.call_id] = run
                self._count(run)
            while len(self._recent) > RECENT_RUNS:
                self._recent.popitem(last=False)
            self._note_changes()

    def remember_oom(self, task: str, variant: str, asked_bytes: int, used_bytes: int, input_bytes: int) -> None:
        with self._lock:
            self._estimator.remember_oom(task, variant, asked_bytes, used_bytes, input_bytes)
            self._note_changes()
        self.save()

    def count(self, task: str, input_bytes: int, cost: Cost) -> None:
        """Keep what one call of a task with such inputs computes and moves."""
        with self._lock:
            self._estimator.count(task, input_bytes, cost)
            self._note_changes()

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

    def untold(self, call_ids: Iterable[str]) -> list[str]:
        """Those of the calls whose run is not known: their workers have not told of them yet, or never will."""
        with self._lock:
            return [call_id for call_id in call_ids if call_id not in self._recent]

    def runs(self, task: str) -> list[Run]:
        """The measured runs of a task, oldest first, as far as they are among the last 20,000 of all."""
        with self._lock:
            return [run for run in self._recent.values() if run.task == task]

    def task_uses(self) -> list[TaskUse]:
        """What tasks asked for and used, of the last 20,000 runs."""
        with self._lock:
            return task_uses(self._recent.values(), self._estimator.profiles)

    def stragglers(self, slower_than: float | None = None) -> list[Straggler]:
        """Nodes and cards that are slower than their like, the slowest first; `since_s` is wall-clock time. `slower_than`: from now on a
        node is named when it takes so many times as long."""
        with self._lock:
            self._stragglers.slower_than = slower_than or self._stragglers.slower_than
            named, ahead_s = self._stragglers.named(), time.time() - time.monotonic()
        return [dataclasses.replace(one, since_s=one.since_s + ahead_s) for one in named]

    def forget_node(self, node_id: str) -> None:
        """See `Stragglers.forget`."""
        with self._lock:
            self._stragglers.forget(node_id)

    def profiles(self, task: str | None = None) -> list[TaskProfile]:
        """All profiles, or those of the tasks with this name."""
        with self._lock:
            return [p for name, p in sorted(self._estimator.profiles.items()) if task is None or name == task]

    def merge(self, profiles: Iterable[TaskProfile]) -> int:
        """Take in what another fabric measured, and save it; returns how many rows were taken."""
        with self._lock:
            taken = self._estimator.merge(profiles)
            self._note_changes()
        self.save()
        return taken

    def forget(self, task: str) -> int:
        """Drop all versions of a task, by its name or by `name@hash`; returns how many those were."""
        with self._lock:
            tasks = [key for key in self._estimator.profiles if task in (key, name_of(key))]
            for key in tasks:
                known = self._estimator.profiles[key]
                self._estimator.profiles[key] = TaskProfile(key, known.fingerprint, known.variants)
                self._estimator.dirty.add(key)
            self._note_changes()
            self._unsaved.difference_update(tasks)
        self._disk.forget(tasks)
        return len(tasks)

    def save(self) -> int:
        """Write what changed; returns how many profiles that were."""
        with self._lock:
            documents = {task: to_document(self._estimator.profiles[task]) for task in self._unsaved}
            self._unsaved.clear()
        try:
            self._disk.save(documents)
        except FabricError:
            with self._lock:
                self._unsaved.update(documents)
            raise
        return len(documents)

    def _note_changes(self) -> None:
        for task in self._estimator.dirty:
            self._tell_of(task)
            self._unsaved.add(task)
            self._sharing.has_news = True
        self._estimator.dirty.clear()

    def _tell_of(self, task: str) -> None:
        """Clients that know the task get it anew."""
        self._versions[task] = max(time.time_ns(), self._versions.get(task, 0) + 1)

    def _count(self, run: Run) -> None:
        if is_model_task(run.task):  # served models are counted by their directory
            return
        profile = self._estimator.profiles.get(run.task)
        variant = None if profile is None else profile.variants.get(run.variant)
        count_run(self._tally, run, self._catalogue.get(run.flavor), None if variant is None else variant.resources)

    def _look(self) -> None:
        """Judge the nodes by what was measured."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            nodes = {node.node_id: node for node in ray_io.living_nodes()}
            with self._lock:
                self._stragglers.look(nodes, now_s)

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(SAVE_S)
            for step in (self._age, self._share, self.save, self._look):
                try:
                    step()
                except Exception as error:  # a full disk, a head that is away: neither may end the profiler; the next round tries again
                    _log.warning("%s failed: %s", step.__name__.strip("_"), ray_io.describe_exception(error))

    def _share(self) -> None:
        """What tasks tell of each other, anew."""
        began_s = time.monotonic()
        if not self._sharing.is_due(began_s):
            return
        with self._lock:
            self._sharing.has_news = False
            known = self._estimator.copies()
        found = shared_forecasts(known, self._catalogue)
        self._sharing.done(began_s, time.monotonic())
        with self._lock:
            for task, profile in self._estimator.profiles.items():
                new = found.get(task, {})
                if is_news(profile.forecasts, new):
                    profile.forecasts = new
                    self._tell_of(task)

    def _age(self) -> None:
        with self._lock:
            self._estimator.age(time.time())
            self._note_changes()


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
