"""tierfabric: routes, queues and serves work on Ray across tiers of mixed hardware.

Everything public is named here and loaded on first use: `import fabric` itself needs no Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fabric.auth import settle

if TYPE_CHECKING:
    from fabric.errors import FabricError, NoFitError, OutOfMemory, UnavailableError
    from fabric.jobs import Job, plan, submit, submit_many
    from fabric.launch import connect, disconnect
    from fabric.progress_report import progress
    from fabric.recall import explain
    from fabric.status import nodes
    from fabric.tasks import Task, task

settle(make=False)

__version__ = "0.1.0"

_HOMES = {
    "FabricError": "fabric.errors",
    "Job": "fabric.jobs",
    "NoFitError": "fabric.errors",
    "OutOfMemory": "fabric.errors",
    "Task": "fabric.tasks",
    "UnavailableError": "fabric.errors",
    "connect": "fabric.launch",
    "disconnect": "fabric.launch",
    "explain": "fabric.recall",
    "nodes": "fabric.status",
    "plan": "fabric.jobs",
    "progress": "fabric.progress_report",
    "submit": "fabric.jobs",
    "submit_many": "fabric.jobs",
    "task": "fabric.tasks",
}

_WITHOUT_RAY = frozenset({"fabric.errors", "fabric.jobs", "fabric.progress_report"})

__all__ = [
    "FabricError",
    "Job",
    "NoFitError",
    "OutOfMemory",
    "Task",
    "UnavailableError",
    "connect",
    "disconnect",
    "explain",
    "nodes",
    "plan",
    "progress",
    "submit",
    "submit_many",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fabric' has no attribute {name!r}")
    if _HOMES[name] not in _WITHOUT_RAY:
        settle()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
