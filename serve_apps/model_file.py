"""Deploys a model file as it is: no class, no code of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric import client
from fabric.errors import UserError
from serve_apps.autoscaling.rule import CPU_UTILIZATION
from serve_apps.deployment import Say, deploy_path, deploy_version
from serve_apps.plan import plan_deploy
from serve_apps.registry.client import ModelRegistry

if TYPE_CHECKING:
    from serve_apps.deployment import Live
    from serve_apps.rollout.spec import RolloutSpec

_DEFAULT_TARGETS = {"cpu_utilization": 70.0, "gpu_utilization": 70.0, "ongoing_requests": 2.0, "latency_p95": 100.0}


_REF = re.compile(r"[a-z0-9-]+:[a-z0-9_-]+")


class _File:
    """What `plan_deploy` asks a class for; a file declares nothing."""


def deploy_file(
    file: str | Path,
    *,
    name: str | None = None,
    say: Say,
    autoscale: Mapping[str, Any] | None = None,
    rollout: RolloutSpec | None = None,
    **given: Any,
) -> Live:
    """Serve a model file or folder, or a registered version: `resnet:3`, `resnet:champion`. `given`: the arguments of
    `ModelService.deploy`. The call returns when it answers.

    Raises: `ModelError` (`model_not_found`, `constructor_failed` where no runtime can load it), UnknownNameError (`unknown_version`), and
    as `ModelService.deploy`.
    """
    path = Path(file)
    registered = None if path.exists() or not _REF.fullmatch(str(file)) else ModelRegistry(config=client.current().config).find(str(file))
    chosen = name or (registered.name if registered else model_name(path))
    if registered is not None and chosen != registered.name:
        raise UserError(f"{file} is a version of {registered.name}, not of {chosen}", code="bad_name", hint="leave --name out")
    plan = plan_deploy(_File, name=chosen, autoscale=autoscale, **{key: value for key, value in given.items() if value is not None})
    return deploy_path(path, plan, say, rollout) if registered is None else deploy_version(registered, plan, say, rollout)


def autoscale_of(
    *, least: int | None, most: int | None, metric: str | None, target: float | None, idle_s: float | None
) -> dict[str, Any] | None:
    """What the options of the command line come to; None where none of them was given."""
    if least is None and most is None and metric is None and target is None:
        return None
    metric = metric or (CPU_UTILIZATION if least != 0 else "ongoing_requests")
    scale: dict[str, Any] = {"metric": metric, "min": 1 if least is None else least, "max": most or max(1, least or 1)}
    scale["target"] = _DEFAULT_TARGETS.get(metric, 70.0) if target is None else target
    return scale if idle_s is None else {**scale, "idle_s": idle_s}


def model_name(path: Path) -> str:
    """`ResNet50_v2.onnx` -> `resnet50-v2`."""
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:63] or "model"
