"""Decides whether one entry of the flavor catalogue is valid, and turns it into a `Flavor`.

Invariants: an entry that passes has a tier of this fabric; every figure is positive and finite; no price is 0 or negative
(unknown is None, never 0); what is refused names the flavor, the key and the value, and the nearest known name.
This module imports pydantic: load it through `pools.flavors`, which does so only when a catalogue is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fabric.errors import ConfigError, UnknownNameError, UserError, nearest_hint
from fabric.types import Flavor

Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8", "int4"]
DTYPES: tuple[str, ...] = get_args(Dtype)
FIGURES = ("memory_gib", "bandwidth_gb_per_s", "compute_capability", "tensor_cores", "usd_per_h")
SOURCE_KEYS = ("specs", "peak_tflops", *FIGURES, *DTYPES)

_GIB = 2**30
_GB = 1e9
_TERA = 1e12
# A flavor's name becomes the value of a Ray node label, and Ray refuses any other shape there.
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1)]
_Run = Annotated[str, Field(pattern="[A-Za-z0-9]")]  # without a letter or digit it would match every device


def _empty_for_none(value: Any) -> Any:
    return {} if value is None else value


class FlavorEntry(BaseModel):
    """One entry as it stands in YAML, in the units of YAML. Strict: `"3.5"` and `true` are not numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tier: _Text
    kind: _Text
    resource: _Text
    family: _Text | None = None
    units: _Positive = 1.0
    match: list[_Run] = []
    isa: list[_Text] = []
    memory_gib: _Positive | None = None
    bandwidth_gb_per_s: _Positive | None = None
    compute_capability: _Positive | None = None
    tensor_cores: Annotated[int, Field(ge=0)] | None = None
    peak_tflops: Annotated[dict[Dtype, _Positive | None], BeforeValidator(_empty_for_none)] = {}
    usd_per_h: _Positive | None = None
    sources: Annotated[dict[str, str], BeforeValidator(_empty_for_none)] = {}


def flavor_from(name: str, raw: Mapping[str, Any], *, tiers: Sequence[str], known: Sequence[str]) -> Flavor:
    """The `Flavor` that `raw` describes; `known` are the flavors' names, for the hint of a misspelt one.

    Raises: ConfigError, UnknownNameError.
    """
    if not _LABEL_VALUE.fullmatch(name):
        raise ConfigError(
            f"flavors: {name!r} is not a flavor's name", hint="letters and digits, with - _ . between them, at most 63 in all"
        )
    try:
        entry = FlavorEntry.model_validate(dict(raw))
    except ValidationError as error:
        raise _refusal(name, error, known) from error
    if entry.tier not in tiers:
        raise _unknown(name, "tier", entry.tier, tiers)
    for key in entry.sources:
        if key not in SOURCE_KEYS:
            raise _unknown(name, "source key", key, SOURCE_KEYS)
    return _converted(name, entry)


def _converted(name: str, entry: FlavorEntry) -> Flavor:
    bandwidth = entry.bandwidth_gb_per_s
    return Flavor(
        name=name,
        tier=entry.tier,
        kind=entry.kind,
        family=entry.family or entry.kind,
        resource=entry.resource,
        units=entry.units,
        match=tuple(entry.match),
        isa=tuple(entry.isa),
        memory_bytes=None if entry.memory_gib is None else round(entry.memory_gib * _GIB),
        bandwidth_bytes_per_s=None if bandwidth is None else bandwidth * _GB,
        compute_capability=entry.compute_capability,
        tensor_cores=entry.tensor_cores,
        # Plain dicts, not mapping proxies: a flavor travels between processes, and a proxy cannot be pickled.
        peak_flops={dtype: rate * _TERA for dtype, rate in entry.peak_tflops.items() if rate is not None},
        usd_per_h=entry.usd_per_h,
        sources=dict(entry.sources),
    )


def _refusal(name: str, error: ValidationError, known: Sequence[str]) -> UserError:
    """The first complaint, in our words."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        return _unknown(name, "flavor key", place[-1], FlavorEntry.model_fields)
    if first["type"] == "literal_error" and place[-1] == "[key]":
        return _unknown(name, "dtype", place[-2], DTYPES)
    where = f"flavors.{name}.{'.'.join(place)}"
    if first["type"] == "missing":
        return ConfigError(
            f"{where} is missing", hint=f"a new flavor needs tier, kind and resource; if it is not new: {nearest_hint(name, known)}"
        )
    if place[0] == "usd_per_h" and value == 0 and not isinstance(value, bool):
        return ConfigError(f"{where}: 0 is not a price", hint="leave it out or null when unknown")
    shown = f" (got {value!r})" if value is None or isinstance(value, str | int | float) else ""
    return ConfigError(f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}")


def _unknown(flavor: str, noun: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> UnknownNameError:
    bare = UnknownNameError.of(noun, name, known)
    return UnknownNameError(f"flavors.{flavor}: {bare.message}", code=bare.code, hint=bare.hint, name=name, flavor=flavor)
