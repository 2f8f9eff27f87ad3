"""What a rollout is asked to do, checked: steps, guards, soak. From Python, from command-line text, and from a document's values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fabric.durations import parse_duration
from fabric.errors import RejectedError, UserError
from serve_apps.rollout.guards import COPYING, DEFAULT_GUARDS, FIGURES, Guard, parse_guards

DEFAULT_STEPS = (1.0, 5.0, 25.0, 50.0, 100.0)
MOST_STEPS = 50
MOST_HOLDBACK = 10.0
ALPHA = 0.03
"""Of a version that stands exactly at all its bounds. One that is like the champion is blamed far more seldom (by the power of its distance
from the bound), so 0.01 of those is not reached: see `benchmarks/rollout/aa.py`."""
STRICT_ALPHA = 0.01
"""Where a guard leaves no room, a version like the champion stands at the bound."""


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """Make one with `Canary`.

    `steps`: percentages, rising, the last is 100. `soak_s`: the least time at each. `min_samples`: the least number of the challenger's
    requests at each. `shadow_first_s`: copies only, before the first step. `holdback`: percent that the champion keeps in the last
    step, to compare with. `max_surge`: replicas of the challenger beyond the champion's that may run at once; None: as many as it asks
    for. `alpha`: how likely all guards together may blame a version that stands exactly at their bounds. `start_timeout_s`: how long
    the challenger may take to be ready. `max_deaths`: so many replicas of it that die end the rollout.
    """

    steps: tuple[float, ...] = DEFAULT_STEPS
    guards: tuple[Guard, ...] = field(default_factory=lambda: parse_guards(DEFAULT_GUARDS))
    soak_s: float = 60.0
    shadow_first_s: float = 0.0
    min_samples: int = 30
    max_surge: int | None = None
    allow_signature_change: bool = False
    holdback: float = 1.0
    alpha: float = ALPHA
    start_timeout_s: float = 900.0
    max_deaths: int = 2

    @property
    def is_copying(self) -> bool:
        """Whether a guard needs answers of both versions to the same requests."""
        return any(guard.kind in COPYING for guard in self.guards)

    @property
    def guard_alpha(self) -> float:
        """Each guard's part of `alpha`."""
        return self.alpha / max(1, sum(guard.kind not in FIGURES for guard in self.guards))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "steps": list(self.steps), "guards": [guard.text for guard in self.guards]}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RolloutSpec:
        """Unknown keys, of a later release, are left out."""
        known = {key: value for key, value in body.items() if key in cls.__slots__}
        return cls(**{**known, "steps": tuple(body["steps"]), "guards": parse_guards(body["guards"])})


def Canary(
    steps: str | Sequence[float] = DEFAULT_STEPS,
    guards: str | Sequence[str] = (),
    *,
    soak: str | float = 60.0,
    shadow_first: str | float = 0.0,
    min_samples: int = 30,
    max_surge: int | None = None,
    allow_signature_change: bool = False,
    holdback: float = 1.0,
    alpha: float | None = None,
    start_timeout: str | float = 900.0,
    max_deaths: int = 2,
) -> RolloutSpec:
    """`Canary(steps=[1, 5, 25], guards=["latency_p95<=1.2x"], soak="2m")`. Lengths of time are seconds or text like `10m`.

    `alpha`: 0.03 unless given; 0.01 where a guard leaves no room, as `latency_p95<=1x`.

    100 is added to steps that end below it. Without guards: `latency_p95<=1.2x` and `error_rate<=+0.5%`.

    Raises: UserError (`bad_rollout`, `bad_guard`, `bad_duration`), UnknownNameError (`unknown_guard_metric`).
    """
    if max_surge is not None:
        max_surge = _count("max_surge", max_surge, 0)
    parsed = parse_guards([guards] if isinstance(guards, str) else list(guards))
    if alpha is None:
        alpha = STRICT_ALPHA if any(guard.is_strict and guard.kind not in FIGURES for guard in parsed) else ALPHA
    return RolloutSpec(
        steps=parse_steps(steps),
        guards=parsed,
        soak_s=parse_duration(soak),
        shadow_first_s=parse_duration(shadow_first),
        min_samples=_count("min_samples", min_samples, 1),
        max_surge=max_surge,
        allow_signature_change=_flag("allow_signature_change", allow_signature_change),
        holdback=_number("holdback", holdback, 0.0, MOST_HOLDBACK),
        alpha=_number("alpha", alpha, 1e-6, 0.2),
        start_timeout_s=parse_duration(start_timeout),
        max_deaths=_count("max_deaths", max_deaths, 1),
    )


def parse_steps(steps: str | Iterable[float]) -> tuple[float, ...]:
    """`1,5,25` or `[1, 5, 25]` -> (1.0, 5.0, 25.0, 100.0).

    Raises: UserError (`bad_rollout`).
    """
    hint = "percentages that rise, like 1,5,25,50,100"
    given: list[Any] = [part.strip().removesuffix("%") for part in steps.split(",")] if isinstance(steps, str) else _listed(steps, hint)
    parsed: list[float] = []
    for step in given:
        try:
            value = float("nan") if isinstance(step, bool) else float(step)
        except (TypeError, ValueError):
            raise _bad(f"step {step!r} is not a percentage", hint) from None
        if not 0.01 <= value <= 100:
            raise _bad(f"step {step!r} is not a percentage from 0.01 to 100", hint)
        if parsed and value <= parsed[-1]:
            raise _bad(f"steps must rise, and {value:g} comes after {parsed[-1]:g}", hint)
        parsed.append(round(value, 2))
    if not parsed or len(parsed) > MOST_STEPS:
        raise _bad(f"a rollout has 1 to {MOST_STEPS} steps, not {len(parsed)}", hint)
    return tuple(parsed) if parsed[-1] == 100 else (*parsed, 100.0)


def refuse_overlap(model: str, running: Mapping[str, str]) -> None:
    """`running`: model -> what is under way there, in words. One rollout or experiment at a time divides a model's traffic.

    Raises: RejectedError (`rollout_running`).
    """
    if model in running:
        raise RejectedError(
            f"{model} has {running[model]} under way",
            code="rollout_running",
            hint=f"wait for its end, or end it: fabric rollout abort {model}, or fabric experiment stop {model}",
            model=model,
        )


def _listed(steps: Any, hint: str) -> list[Any]:
    if isinstance(steps, Mapping) or not isinstance(steps, Iterable):
        raise _bad(f"steps are {steps!r}", hint)
    return list(steps)


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _bad(f"{name} is {value!r}; it must be a whole number from {least}", None)
    return value


def _number(name: str, value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _bad(f"{name} is {value!r}; it must be a number from {least:g} to {most:g}", None)
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(f"{name} is {value!r}; it must be true or false", None)
    return value


def _bad(what: str, hint: str | None) -> UserError:
    return UserError(what, code="bad_rollout", hint=hint)
