"""Decides whether a document is a configuration written as a Kubernetes object, and takes the settings out of it.

Invariants: a plain fabric.yaml is given back as it is; of `metadata` only the name is read, and it is the fabric's name where
`spec` gives none; `status` is the server's and is ignored. An unknown apiVersion or kind is refused, never half read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.errors import ConfigError, UnknownNameError

API_VERSION = "example.com/v1"
KIND = "TaskScheduler"
METADATA = frozenset({
    "name", "namespace", "generateName", "labels", "annotations", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields", "selfLink",
})  # fmt: skip
_PARTS = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_COMMANDS = {"HybridPolicy": "fabric policy apply FILE", "Rollout": "fabric rollout start"}


def settings_of(document: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """The settings of fabric.yaml that `document` holds: its own keys, or the `spec` of a TaskScheduler. `place` names the file.

    Raises: ConfigError (`unknown_kind`, `bad_config`), UnknownNameError.
    """
    if not document.keys() & {"apiVersion", "kind"}:
        return document
    _refuse_other_kinds(document, place)
    for key in document:
        if key not in _PARTS:
            raise _unknown(place, key, _PARTS)
    metadata, spec = _mapping(document, "metadata", place), _mapping(document, "spec", place)
    for key in metadata:
        if key not in METADATA:
            raise _unknown(place, f"metadata.{key}", METADATA)
    name = metadata.get("name")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{place}: metadata.name must be text (got {name!r})")
    return spec if name is None or spec.get("name") is not None else {"name": name, **{k: v for k, v in spec.items() if k != "name"}}


def _refuse_other_kinds(document: Mapping[str, Any], place: str) -> None:
    for key, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
        given = document.get(key)
        if given == wanted:
            continue
        hint = f"a configuration has apiVersion: {API_VERSION} and kind: {KIND}, or neither"
        if key == "kind" and given in _COMMANDS:
            hint = f"that is for `{_COMMANDS[given]}`; {hint}"
        said = f"unknown {key} {given!r}" if key in document else f"{key} is missing"
        raise ConfigError(f"{place}: {said}", code="unknown_kind", hint=hint)


def _mapping(document: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place}: {key} must be a mapping, not a {type(value).__name__}")
    return value


def _unknown(place: str, key: str, known: frozenset[str]) -> UnknownNameError:
    found = UnknownNameError.of("config key", key.rpartition(".")[2], known)
    return UnknownNameError(f"{place}: unknown config key {key!r}", code=found.code, hint=found.hint, name=key)
