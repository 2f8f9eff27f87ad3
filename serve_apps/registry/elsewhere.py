"""Other registries, as the words of a command name them; what is brought from there is not brought twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fabric.errors import UnknownNameError, UserError
from fabric.registry.limits import MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE
from fabric.registry.version import ModelVersion
from serve_apps.registry.client import ModelRegistry
from serve_apps.registry.reading import ReadModel

KINDS = ("mlflow", "triton")
Say = Callable[[str], None]


class Place(NamedTuple):
    """`mlflow:http://host:5000#resnet:3` -> kind `mlflow`, address `http://host:5000`, name `resnet`, word `3`. `triton:/models#resnet`.
    Without a name: every model there is."""

    kind: str
    address: str
    name: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One version elsewhere, on this machine by now. `version`: what it is called there."""

    name: str
    version: str
    read: ReadModel
    source: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


def parse_place(text: str) -> Place:
    """Raises: UserError (`bad_place`), UnknownNameError (`unknown_registry`)."""
    kind, colon, rest = text.partition(":")
    address, _, ref = rest.partition("#")
    if not colon:
        raise UserError(f"{text[:80]!r} names no registry", code="bad_place", hint="mlflow:http://host:5000#resnet, or triton:/models")
    if kind not in KINDS:
        raise UnknownNameError.of("registry", kind, KINDS)
    if kind == "triton" and not Path(address).is_dir():
        raise UserError(f"there is no folder {address!r}", code="bad_place", hint="triton:FOLDER, a model repository or one model of it")
    name, _, word = ref.partition(":")
    return Place(kind, address, name, word)


def take_in(registry: ModelRegistry, found: Iterable[Found], *, say: Say, name: str = "") -> Iterator[ModelVersion]:
    """Register what was found, in its order. What the registry has under the same name, from the same source with the same bytes, is told
    and not registered again. `name`: what it is called here, where it is one model."""
    for one in found:
        called = name or one.name
        known = _known(registry, called, one)
        if known is not None:
            say(f"{one.source} is {known.ref} already")
            yield known
            continue
        made = registry.register_read(called, one.read, metadata=one.metadata, metrics=one.metrics, source=one.source)
        if one.aliases:
            registry.set_aliases(called, dict.fromkeys(one.aliases, made.number))
        yield made


def kept_name(name: str) -> str:
    """`ResNet_50` -> `resnet-50`: what a model may be called here."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "model"


def kept_metadata(given: Mapping[str, str]) -> dict[str, str]:
    """What others say of a model, cut to what is kept here."""
    cut = {key[:MAX_METADATA_KEY]: str(value)[:MAX_METADATA_VALUE] for key, value in given.items() if key}
    return dict(sorted(cut.items())[:MAX_METADATA])


def _known(registry: ModelRegistry, name: str, one: Found) -> ModelVersion | None:
    files = {(file.path, file.digest) for file in one.read.files}
    for version in registry.all(name=name, state="any"):
        if version.source == one.source and {(file.path, file.digest) for file in version.files} == files:
            return version
    return None
