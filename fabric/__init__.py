"""tierfabric: routes, queues and serves work on Ray across tiers of mixed hardware.

Everything public is named here and loaded on first use: `import fabric` itself needs no Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fabric.auth import settle

if TYPE_CHECKING:
    from fabric.errors import FabricError, NoFitError, OutOfMemory, UnavailableError
    from fabric.launch import connect, disconnect
    from fabric.recall import explain
    from fabric.tasks import Task, task

settle(make=False)

__version__ = "0.1.0"

_HOMES = {
    "FabricError": "fabric.errors",
    "NoFitError": "fabric.errors",
    "OutOfMemory": "fabric.errors",
    "Task": "fabric.tasks",
    "UnavailableError": "fabric.errors",
    "connect": "fabric.launch",
    "disconnect": "fabric.launch",
    "explain": "fabric.recall",
    "task": "fabric.tasks",
}

__all__ = [
    "FabricError",
    "NoFitError",
    "OutOfMemory",
    "Task",
    "UnavailableError",
    "connect",
    "disconnect",
    "explain",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fabric' has no attribute {name!r}")
    if _HOMES[name] != "fabric.errors":
        settle()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
