"""Reads a workload document: which models are asked how often, which training has to be done, and what was measured of them where.

    services:
      bert: {domain: nlp, requests_per_s: 2500, measured: {a100-80g: {single_ms: 1.72, items_per_s: 3552}}}
    training:
      resnet: {domain: cv, work_per_s: 12, measured: {v100: 4.4, k80: 0.62}}
    units: {a100-80g: 8, v100: 8, k80: 24}

`single_ms`: latency of a request alone; `items_per_s`: throughput of one unit with large batches; `work_per_s` and the figures measured of
training are in one unit of the user's choice (steps). `units` may be left out: those of the fabric that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fabric.batching import service_time
from fabric.errors import ConfigError, UnknownNameError
from fabric.stations import Service
from fabric.tiering import TrainingLoad
from fabric.types import Domain, Flavor

MAX_DOCUMENT_CHARS = 1_000_000
_HINT = "see `fabric tiers --help` for the form"

_Figure = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Latency(_Part):
    single_ms: _Figure
    items_per_s: _Figure


class _Service(_Part):
    requests_per_s: _Rate
    domain: Domain = "other"
    measured: dict[str, _Latency] = {}


class _Training(_Part):
    work_per_s: _Rate
    domain: Domain = "other"
    measured: dict[str, _Figure] = {}


class _Document(_Part):
    services: dict[str, _Service] = {}
    training: dict[str, _Training] = {}
    units: dict[str, Annotated[int, Field(ge=0)]] | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """`units`: flavor -> how many there are; None where the document does not say."""

    services: tuple[Service, ...]
    loads: tuple[TrainingLoad, ...]
    units: Mapping[str, int] | None


def read_workload(path: Path, catalogue: Mapping[str, Flavor]) -> Workload:
    """Raises: ConfigError (`no_such_file`, `bad_workload`), UnknownNameError (`unknown_flavor`)."""
    read = _validated(path, _loaded(path))
    twice = sorted(set(read.services) & set(read.training))
    if twice:
        raise ConfigError(f"{path.name}: {twice[0]!r} is a service and a training load", code="bad_workload", hint="give each its own name")
    named = [one.measured for one in read.services.values()] + [one.measured for one in read.training.values()] + [read.units or {}]
    for name in (name for names in named for name in names):
        if name not in catalogue:
            raise UnknownNameError.of("flavor", name, catalogue)
    services = tuple(
        Service(
            name,
            one.requests_per_s,
            {flavor: service_time(1e-3 * each.single_ms, each.items_per_s) for flavor, each in one.measured.items()},
            one.domain,
        )
        for name, one in read.services.items()
    )
    loads = tuple(TrainingLoad(name, one.work_per_s, one.measured, one.domain) for name, one in read.training.items())
    return Workload(services, loads, read.units)


def _loaded(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no workload at {path}", code="no_such_file", hint="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the workload {path} cannot be read: {error}", code="bad_workload", hint="it must be a text file") from None
    if len(text) > MAX_DOCUMENT_CHARS:
        raise ConfigError(f"{path.name} is longer than {MAX_DOCUMENT_CHARS} characters", code="bad_workload", hint=_HINT)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} is not YAML: {error}", code="bad_workload", hint=_HINT) from None


def _validated(path: Path, raw: Any) -> _Document:
    try:
        return _Document.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ConfigError(f"{path.name}: {place}: {first['msg']}", code="bad_workload", hint=_HINT) from None
