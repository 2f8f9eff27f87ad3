"""Reads a rollout from a YAML document, `kind: Rollout`; what it refuses names its place and, for a misspelt key, the nearest known one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fabric.errors import ConfigError, UnknownNameError, UserError
from serve_apps.rollout.spec import Canary, RolloutSpec

API_VERSION = "serving.example.com/v1"
KIND = "Rollout"
MAX_DOCUMENT_CHARS = 100_000
_KEYS = {
    "steps": "steps",
    "guards": "guards",
    "soak": "soak",
    "shadowFirst": "shadow_first",
    "minSamples": "min_samples",
    "maxSurge": "max_surge",
    "allowSignatureChange": "allow_signature_change",
    "holdback": "holdback",
    "alpha": "alpha",
    "startTimeout": "start_timeout",
    "maxDeaths": "max_deaths",
}


@dataclass(frozen=True, slots=True)
class RolloutDocument:
    """`to`: a version or an alias of `model`; `given`: the fields of `Canary` as they stand in the document."""

    model: str
    to: str
    spec: RolloutSpec
    given: Mapping[str, Any]


def read_rollout(document: str | Mapping[str, Any]) -> RolloutDocument:
    """`{apiVersion, kind: Rollout, spec: {model: resnet, to: 3, steps: [1, 5, 25], guards: [...], soak: 2m}}`, as text or as read from it.

    Raises: ConfigError (`bad_rollout`, `rollout_not_yaml`), UnknownNameError (`unknown_rollout_key`), and what `Canary` raises.
    """
    raw = _loaded(document) if isinstance(document, str) else dict(document)
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if raw.get(key) != wanted:
            raise ConfigError(f"{key}: must be {wanted}, not {raw.get(key)!r}", code="bad_rollout", hint=f"{key}: {wanted}")
    _only("", raw, ("apiVersion", "kind", "metadata", "spec", "status"))
    spec = raw.get("spec")
    if not isinstance(spec, Mapping):
        raise ConfigError("spec: must be a mapping", code="bad_rollout", hint="spec: {model: resnet, to: 3}")
    _only("spec.", spec, ("model", "to", *_KEYS))
    given = {_KEYS[key]: value for key, value in spec.items() if key in _KEYS and value is not None}
    try:
        return RolloutDocument(_name("model", spec), _name("to", spec), Canary(**given), given)
    except UnknownNameError:
        raise
    except UserError as error:
        raise ConfigError(f"spec: {error.message}", code=error.code, hint=error.hint) from error


def _loaded(text: str) -> dict[str, Any]:
    if len(text) > MAX_DOCUMENT_CHARS:
        raise ConfigError(f"a rollout of {len(text):,} characters is too long", code="bad_rollout", hint=f"at most {MAX_DOCUMENT_CHARS:,}")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"the rollout is not YAML: {error}", code="rollout_not_yaml") from error
    if not isinstance(document, dict):
        raise ConfigError("a rollout must be a mapping", code="bad_rollout", hint=f"it begins with apiVersion: {API_VERSION}")
    return document


def _only(place: str, given: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            bare = UnknownNameError.of("rollout key", str(key), known)
            raise UnknownNameError(f"{place}{key}: {bare.message}", code=bare.code, hint=bare.hint, name=str(key))


def _name(key: str, spec: Mapping[str, Any]) -> str:
    value = spec.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        raise ConfigError(f"spec.{key}: must be a name, not {value!r}", code="bad_rollout", hint="model: resnet, to: 3")
    return str(value)
