"""Decides which flavors this fabric knows, and which of them a device or a CPU is.

Invariants: the shipped catalogue and every override pass the same checks; a figure that an override changes is never left
with the source of the one it replaced; flavors that are new in the overrides stand before the shipped ones, so where two
fit equally well, yours wins. Importing this module costs neither YAML nor pydantic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from fabric.errors import BugError, ConfigError, UnknownNameError
from fabric.types import DEFAULT_TIERS, Device, Flavor

CATALOGUE_VERSION = 1
OVERRIDE_SOURCE = "fabric.yaml"
GENERIC_CPU = "cpu"

# A slice of a card carries the card's name ("NVIDIA A10-4Q"), not its memory. Whole cards report 92 % and more of the
# nominal size (ECC and the driver take the rest), the largest slices half of it.
_WHOLE_CARD_FRAC = 0.7
_NESTED = ("peak_tflops", "sources")


def load_catalogue(overrides: Mapping[str, Mapping[str, Any]] | None = None, *, tiers: Sequence[str] = DEFAULT_TIERS) -> dict[str, Flavor]:
    """The shipped flavors with `overrides` (fabric.yaml's `flavors:`) merged over them key by key.

    A shipped flavor whose tier is not one of `tiers` is left out, unless an override moves it to one of them.

    Raises: ConfigError, UnknownNameError.
    """
    from pools.flavor_entry import flavor_from

    shipped = _shipped()
    overrides = overrides or {}
    for name, override in overrides.items():
        if not isinstance(override, Mapping):
            raise ConfigError(f"flavors.{name} must be a mapping of keys, not {override!r}")
    ordered = [*(name for name in overrides if name not in shipped), *shipped]
    catalogue = {}
    for name in ordered:
        if name not in overrides and shipped[name]["tier"] not in tiers:
            continue
        raw = _merged(shipped.get(name, {}), overrides.get(name, {}))
        catalogue[name] = flavor_from(name, raw, tiers=tiers, known=tuple(shipped))
    return catalogue


def lookup(catalogue: Mapping[str, Flavor], name: str) -> Flavor:
    """The flavor of that name.

    Raises: UnknownNameError, with the nearest known name.
    """
    if name not in catalogue:
        raise UnknownNameError.of("flavor", name, catalogue)
    return catalogue[name]


def flavor_of_device(catalogue: Mapping[str, Flavor], device: Device) -> str | None:
    """The flavor that the device is, by its own `flavor`, its instruction sets (a CPU) or its name; None where none fits.

    A flavor fits by name where one of its `match` strings, or its own name in full, stands in the device's name as whole
    runs of letters and digits. The longest match wins, then the flavor listed first.

    Raises: UnknownNameError where the device itself names a flavor that is not in the catalogue.
    """
    if device.flavor is not None:
        return lookup(catalogue, device.flavor).name
    if device.kind == "cpu":
        has_cpus = any(flavor.is_cpu for flavor in catalogue.values())
        return flavor_of_cpu(catalogue, device.isa) if has_cpus else None
    words = _runs(device.name)
    best, best_length = None, 0
    for flavor in catalogue.values():
        if flavor.is_cpu or _is_slice(device, flavor):
            continue
        length = max((len(wanted) for wanted in map(_runs, flavor.match) if wanted in words), default=0)
        if _runs(flavor.name) == words:
            length = len(words)
        if length > best_length:
            best, best_length = flavor.name, length
    return best


def flavor_of_cpu(catalogue: Mapping[str, Flavor], isa: Collection[str]) -> str:
    """The first CPU flavor listed whose instruction sets are all in `isa` (flags as in /proc/cpuinfo).

    A CPU that has none of them is the flavor `cpu`, else the last CPU flavor listed. A CPU flavor without `isa` is never
    chosen by itself: it would fit every machine.

    Raises: ConfigError where the catalogue has no CPU flavor.
    """
    present = frozenset(isa)
    cpus = [flavor for flavor in catalogue.values() if flavor.is_cpu]
    for flavor in cpus:
        if flavor.isa and present.issuperset(flavor.isa):
            return flavor.name
    if not cpus:
        raise ConfigError("no flavor of kind cpu is known", hint="add one under flavors: in fabric.yaml")
    return GENERIC_CPU if any(flavor.name == GENERIC_CPU for flavor in cpus) else cpus[-1].name


def _shipped() -> dict[str, dict[str, Any]]:
    import yaml

    # The C loader reads the file ten times faster; a PyYAML built without libyaml lacks it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = files(__name__.rpartition(".")[0]).joinpath("flavors.yaml").read_text(encoding="utf-8")
    document = yaml.load(text, Loader=loader)
    if document["version"] != CATALOGUE_VERSION:
        raise BugError(f"flavors.yaml has version {document['version']}, this code reads {CATALOGUE_VERSION}")
    flavors: dict[str, dict[str, Any]] = document["flavors"]
    return flavors


def _merged(shipped: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**shipped, **override}
    for key in _NESTED:
        below, above = shipped.get(key), override.get(key)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            merged[key] = {**below, **above}
    sources = merged.get("sources")
    if sources is None or isinstance(sources, Mapping):
        own = override.get("sources") or {}
        changed = {key: OVERRIDE_SOURCE for key in _figures_in(override) if key not in own}
        merged["sources"] = {**(sources or {}), **changed}
    return merged


def _figures_in(override: Mapping[str, Any]) -> Iterable[str]:
    """The source keys of the figures that an override sets: a dtype for a peak, the key itself for the rest."""
    from pools.flavor_entry import DTYPES, FIGURES

    yield from (key for key in FIGURES if key in override)
    peaks = override.get("peak_tflops")
    if isinstance(peaks, Mapping):
        yield from (dtype for dtype in DTYPES if dtype in peaks)


def _runs(name: str) -> str:
    """The runs of letters and digits, lower case, fenced by spaces: `in` between two of these compares whole runs."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', name.lower()))} "


def _is_slice(device: Device, flavor: Flavor) -> bool:
    if device.memory_bytes is None or flavor.memory_bytes is None:
        return False
    return device.memory_bytes < _WHOLE_CARD_FRAC * flavor.memory_bytes
