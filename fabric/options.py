"""The resource options of a task or variant, checked where they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fabric.durations import parse_duration
from fabric.errors import UnknownNameError, UserError
from fabric.types import Resources, Variant

_AMOUNTS = ("num_cpus", "num_gpus", "memory")
VARIANT_OPTIONS = (*_AMOUNTS, "resources")
_OTHERS = ("resources", "flavor", "name", "max_retries", "runtime_env", "timeout")
AUTO = "auto"
"""As `resources=`: amounts that are not given are sized by what was measured."""
_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Checked options; `flavor` is empty where any node will do."""

    resources: Resources = field(default_factory=Resources)
    flavor: str = ""
    name: str = ""
    max_retries: int | None = None
    runtime_env: Mapping[str, Any] | None = None
    auto: tuple[str, ...] = ()
    timeout_s: float | None = None

    def variant(self, name: str, code_hash: str = "") -> Variant:
        return Variant(name, self.flavor, self.resources, code_hash, self.auto)

    def ray_options(self) -> dict[str, Any]:
        """What is passed to Ray as it is."""
        options: dict[str, Any] = {}
        if self.max_retries is not None:
            options["max_retries"] = self.max_retries
        if self.runtime_env is not None:
            options["runtime_env"] = dict(self.runtime_env)
        return options


def check_options(options: Mapping[str, Any], task: str) -> TaskOptions:
    """Turn keyword options into TaskOptions. Raises: UnknownNameError, UserError."""
    for name in options:
        if name not in (*_AMOUNTS, *_OTHERS):
            raise UnknownNameError.of("task option", name, (*_AMOUNTS, *_OTHERS))
    amounts = {name: _amount(task, name, options.get(name)) for name in _AMOUNTS}
    custom = options.get("resources") or {}
    auto: tuple[str, ...] = ()
    if custom == AUTO:
        custom, auto = {}, tuple(name for name in _AMOUNTS if options.get(name) is None)
    if not isinstance(custom, Mapping):
        hint = '"auto", or a mapping like {"NPU": 1}'
        raise UserError(f"{task}: resources={custom!r} is not a mapping", code="bad_resources", hint=hint)
    for name in custom:
        if name in _RAYS_OWN:
            raise UserError(f"{task}: {name} has an option of its own", code="bad_resources", hint="num_cpus=, num_gpus= or memory=")
    resources = Resources(
        num_cpus=1.0 if amounts["num_cpus"] is None else amounts["num_cpus"],
        num_gpus=amounts["num_gpus"] or 0.0,
        memory_bytes=int(amounts["memory"] or 0),
        custom=tuple(sorted((str(name), _amount(task, str(name), value) or 0.0) for name, value in custom.items())),
    )
    return TaskOptions(
        resources=resources,
        flavor=options.get("flavor") or "",
        name=options.get("name") or "",
        max_retries=options.get("max_retries"),
        runtime_env=options.get("runtime_env"),
        auto=auto,
        timeout_s=_timeout(task, options.get("timeout")),
    )


def _timeout(task: str, value: Any) -> float | None:
    if value is None:
        return None
    timeout_s = parse_duration(value)
    if not 0 < timeout_s < math.inf:
        raise UserError(f"{task}: timeout={value!r} is no time at all", code="bad_timeout", hint="seconds, or 90s, 5m, 1h30m")
    return timeout_s


def _amount(task: str, name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UserError(f"{task}: {name}={value!r} must be a number, 0 or more", code="bad_resources")
    if name != "memory" and value > 1 and value != int(value):
        raise UserError(
            f"{task}: {name}={value!r} must be whole above 1 (Ray's rule)", code="bad_resources", hint=f"{name}={math.ceil(value)}"
        )
    return float(value)
