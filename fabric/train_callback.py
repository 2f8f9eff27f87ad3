"""Feeds a Ray Train run's reports into the job's progress: `RunConfig(callbacks=[TrainProgress(total=1000)])`.

It runs in Train's controller, which lives on the driver's node and so reaches the file that FABRIC_PROGRESS names.
"""

from __future__ import annotations

from typing import Any

from ray.train import Checkpoint, UserCallback

from fabric.progress_report import progress


class TrainProgress(UserCallback):  # type: ignore[misc]
    """`done` names the metric that counts the work done since the job began, over all its attempts (a restored run goes
    on counting); without one, reports are counted. `total` is a number, or the name of a metric."""

    def __init__(self, total: float | str | None = None, done: str | None = None, unit: str = "report") -> None:
        self._total = total
        self._done = done
        self._unit = unit
        self._num_reports = 0

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Called by Ray Train; the first worker's metrics count."""
        self._num_reports += 1
        said = metrics[0] if metrics else {}
        done = said.get(self._done, self._num_reports) if self._done else self._num_reports
        total = said.get(self._total) if isinstance(self._total, str) else self._total
        progress(float(done), None if total is None else float(total), self._unit)
