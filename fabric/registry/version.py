"""The nouns of the registry: what is registered, and a version as it is kept. Frozen; a version's content never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fabric.registry.signature import Signature

State = Literal["active", "deprecated"]
STATES: tuple[State, ...] = ("active", "deprecated")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model. `path` is relative to the model's folder, with `/`; `digest` is its sha256 and names its bytes in the artefact
    store; `size_bytes` is what the store has."""

    path: str
    digest: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What is asked to be registered. Its files are in the artefact store already.

    `main`: the file that is opened to load the model; empty where that is the folder. `signature` None: not known. `framework`: a word,
    as `onnx`. `source`: where it came from, a URL or a path. `settings`: those of its deploy. `key`: the same key for the same name gives
    the same version, so that a request may be sent again.
    """

    framework: str
    files: tuple[ModelFile, ...]
    main: str = ""
    signature: Signature | None = None
    source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version. `number` counts from 1 for each name and is never given again. Only `state` with its `why`, `metrics`,
    `aliases`, and a `signature` that was not known change. `created_s`: wall clock."""

    name: str
    number: int
    digest: str
    size_bytes: int
    framework: str
    files: tuple[ModelFile, ...]
    main: str
    user: str
    created_s: float
    signature: Signature | None = None
    source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: State = "active"
    why: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """`resnet:3`."""
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A name. `user`: who registered its first version, and owns it. `last_number`: the highest that was ever given."""

    name: str
    user: str
    created_s: float
    last_number: int
    aliases: Mapping[str, int] = field(default_factory=dict)


class By(NamedTuple):
    """Who asks for a change. `may_operate`: also where the model belongs to another user."""

    user: str
    may_operate: bool = False


def digest_of_files(files: Sequence[ModelFile]) -> str:
    """The digest of a model: of one file, that file's; of several, the sha256 of what `sha256sum` prints for them, sorted by path."""
    if len(files) == 1:
        return files[0].digest
    lines = "".join(f"{file.digest}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(lines.encode()).hexdigest()
