"""Keeps what the console knows up to date, in threads beside the server: the journal's newest facts, the pools, what the API alone knows.

Invariants: facts are looked for every `FOLLOW_S`; of the API, no more than 1 % of the time is asked for; nothing is asked for more than
a series needs while nobody looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic_core

from fabric.console.fabric_view import FabricView, looked_at
from fabric.console.read_model import ReadModel
from fabric.console.restored import HORIZON_S, restored
from fabric.console.series import STEP_S, Series
from fabric.console.sources import ApiSource, PoolsSource
from fabric.errors import FabricError
from fabric.journal import Journal
from fabric.plane.driver import STREAM
from fabric.types import Flavor, PoolSnapshot

FOLLOW_S = 0.25
LOOK_S = 2.0
ASK_S = 2.0
MODELS_S = 5.0
COST_FACTOR = 100.0
FORGET_S = 600.0
SAVE_S = 60.0
WATCHED_S = 30.0
"""A page that asked within this time is open."""
_log = logging.getLogger(__name__)


class Follower:
    """`lock` guards `model`, `view`, `snapshots` (the pools' last ones) and `series`; `series_file` keeps the last of them.
    `on_news(kind)` is called with `jobs`, `nodes` or `models`, from any thread. `now_s` is the wall clock."""

    def __init__(
        self,
        journal: Journal,
        pools: PoolsSource,
        api: ApiSource,
        catalogue: Mapping[str, Flavor],
        tiers: Sequence[str],
        *,
        series_file: Path | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.lock = threading.RLock()
        self.now_s = now_s
        self.on_news: Callable[[str], None] = lambda _kind: None
        self.journal = journal
        self._pools, self._api = pools, api
        self.model: ReadModel = restored(journal, catalogue, now_s())
        self.view = FabricView(tiers)
        self.series = Series()
        self._series_file, self._saved_s = series_file, time.monotonic()
        self._bring_series_back()
        self.problem: str | None = None
        self._journal_problem: str | None = None
        self.snapshots: Mapping[str, PoolSnapshot] = {}
        self._models: Any = None
        self._closed = threading.Event()
        self._wakes = {name: threading.Event() for name in ("look", "ask")}
        self._watched_s = float("-inf")
        self._asked_models_s = float("-inf")

    # ---- one step each

    def follow(self) -> int:
        """Apply what was written since; how many facts. Raises: FabricError."""
        entries = list(self.journal.entries(STREAM, self.model.seq))
        if entries:
            with self.lock:
                for entry in entries:
                    self.model.apply(entry)
            self.on_news("jobs")
        return len(entries)

    def look(self) -> None:
        """Ask the pools."""
        answers, slow = self._pools.snapshots(), self._pools.slow_factors()
        with self.lock:
            self.view = looked_at(answers, slow, self.model.book.by_node(), self.model.catalogue, self.view)
            self.series.note(self.view, self.now_s())
            self.snapshots = {**self.snapshots, **{tier: seen for tier, seen in answers.items() if isinstance(seen, PoolSnapshot)}}
        self.on_news("nodes")
        if time.monotonic() - self._saved_s >= SAVE_S:
            self.save_series()

    def save_series(self) -> None:
        """The last hour's figures outlive the console. A disk that is full loses them, and nothing else."""
        self._saved_s = time.monotonic()
        if self._series_file is None:
            return
        with self.lock:
            kept = self.series.kept()
        aside = self._series_file.with_name(f".{self._series_file.name}.new")
        try:
            aside.write_bytes(pydantic_core.to_json(kept))
            aside.replace(self._series_file)
        except OSError as error:
            _log.warning("series not kept: %s", error)

    def _bring_series_back(self) -> None:
        if self._series_file is None:
            return
        try:
            self.series.bring_back(pydantic_core.from_json(self._series_file.read_bytes()), self.now_s())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, LookupError) as error:
            _log.warning("series begin anew: %s", error)

    def ask(self) -> None:
        """Ask the API for what only the scheduler knows of jobs, and whether the models changed. Raises: FabricError."""
        jobs = self._api.open_jobs()
        with self.lock:
            self.model.hear(jobs)
        if jobs:
            self.on_news("jobs")
        if time.monotonic() - self._asked_models_s >= MODELS_S:
            self._asked_models_s = time.monotonic()
            models = self._api.models()
            if models != self._models:
                self._models = models
                self.on_news("models")

    @property
    def models(self) -> Any:
        """The document of `/v1/models` as it was seen last; None before that."""
        return None if self._models is None else self._models[0]

    def summaries(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """`{command, asks}` of jobs, from disk."""
        found = self.journal.documents(STREAM, ids)
        return {job_id: found[job_id].get("summary", {}) if isinstance(found.get(job_id), dict) else {} for job_id in ids}

    # ---- all the time

    def start(self) -> None:
        for name, loop in (("follow", self._follow_loop), ("look", self._look_loop), ("ask", self._ask_loop)):
            threading.Thread(target=loop, name=f"console-{name}", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        for wake in self._wakes.values():
            wake.set()

    def watch(self) -> None:
        """Somebody looks: what is known should be fresh."""
        was_watched, self._watched_s = self.is_watched, time.monotonic()
        if not was_watched:
            for wake in self._wakes.values():
                wake.set()

    @property
    def is_watched(self) -> bool:
        return time.monotonic() - self._watched_s < WATCHED_S

    def _follow_loop(self) -> None:
        forgot_s = time.monotonic()
        while not self._closed.wait(FOLLOW_S):
            self._try("journal", self.follow)
            if time.monotonic() - forgot_s > FORGET_S:
                forgot_s = time.monotonic()
                with self.lock:
                    self.model.book.forget(self.now_s() - HORIZON_S)

    def _look_loop(self) -> None:
        while not self._closed.is_set():
            self._try("pools", self.look)
            self._pause("look", LOOK_S if self.is_watched else STEP_S)

    def _ask_loop(self) -> None:
        while not self._closed.is_set():
            began_s = time.monotonic()
            if self.is_watched:
                self._try("api", self.ask)
            self._pause("ask", max(ASK_S, COST_FACTOR * (time.monotonic() - began_s)) if self.is_watched else WATCHED_S)

    def _pause(self, name: str, pause_s: float) -> None:
        self._wakes[name].wait(pause_s)
        self._wakes[name].clear()

    def _try(self, what: str, step: Callable[[], object]) -> None:
        """What failed is tried again at the next step; until then the last that is known stays."""
        problem: str | None = None
        try:
            step()
        except FabricError as error:
            problem = error.message
        except Exception as error:
            _log.exception("console %s failed", what)
            problem = f"{type(error).__name__}: {error}"
        if what == "journal":
            self._tell_problem(problem, self._api_problem)
        elif what == "api":
            self._tell_problem(self._journal_problem, problem)

    _api_problem: str | None = None

    def _tell_problem(self, of_journal: str | None, of_api: str | None) -> None:
        self._journal_problem, self._api_problem = of_journal, of_api
        if (problem := of_journal or of_api) != self.problem:
            self.problem = problem
            _log.warning("console problem=%r", problem)
            self.on_news("jobs")
