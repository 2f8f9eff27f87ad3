"""Decides which deployment of a model answers a request: the version that it names, or an arm of the split. Pure: the draw is given.

The gateway asks here, and HAProxy's rules (`ingress/haproxy_config.py`) do the same sums on what `slots` puts into its map. Invariants:
a request that names a version gets that version or none; equal user keys get equal arms while the shares stand; an arm whose replicas
are all gone has no share, and the default takes it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from serve_apps.directory.table import WHOLE, ModelEntry

VERSION_HEADER = "x-model-version"
"""A number or an alias; what the URL or the message names goes before it."""
USER_HEADER = "x-user-key"


class Arm(NamedTuple):
    """A deployment and the first point that is no longer its own."""

    deployment: str
    end: int


def names_of(entry: ModelEntry) -> dict[str, str]:
    """Everything that a request may call a version, and the deployment that answers to it: numbers, aliases, deployments themselves."""
    known = {deployment: deployment for deployment in entry.versions}
    return known | {name: deployment for name, deployment in entry.names.items() if deployment in known}


def arms_of(entry: ModelEntry) -> tuple[Arm, ...]:
    """What the split comes to now, in its own order; the last arm ends at `WHOLE`. Empty where there is no split, or nobody in it lives."""
    if entry.split is None:
        return ()
    default = entry.versions.get(entry.default)
    arms: list[Arm] = []
    end = 0
    for deployment, share in entry.split.shares.items():
        end += share
        version = entry.versions.get(deployment)
        if version is None or not version.is_ready:
            if default is None or not default.is_ready:
                continue
            deployment = entry.default
        if share and arms and arms[-1].deployment == deployment:
            arms[-1] = Arm(deployment, end)
        elif share:
            arms.append(Arm(deployment, end))
    # Where an arm is gone and the default with it, the last one that lives takes what is left.
    return (*arms[:-1], Arm(arms[-1].deployment, WHOLE)) if arms else ()


def salt_of(entry: ModelEntry) -> str:
    """Eight hexadecimal digits: models fall apart, too, so that nobody gets the new version of everything."""
    return "" if entry.split is None else _salt(entry.name, entry.split.salt)


@lru_cache(maxsize=1024)
def _salt(model: str, salt: str) -> str:
    return hashlib.blake2b(f"{model}/{salt}".encode(), digest_size=4).hexdigest()


def point_of(salt: str, user_key: bytes) -> int:
    """Where a user falls, from 0 to `WHOLE` - 1. `salt`: of `salt_of`."""
    return _avalanche(zlib.crc32(salt.encode() + b"/" + user_key)) % WHOLE


def arm_at(arms: tuple[Arm, ...], point: int) -> str:
    """The deployment that a point belongs to."""
    return next((arm.deployment for arm in arms if point < arm.end), arms[-1].deployment)


def choose_version(entry: ModelEntry, named: str, headers: Mapping[bytes, bytes], draw: Callable[[int], int]) -> str | None:
    """A deployment; None where the version that is asked for is not there. `named`: by URL or message, empty if not; `headers`: names in
    lower case; `draw(n)`: a number from 0 to n - 1. Without a split: the default, which may be empty."""
    named = named or headers.get(VERSION_HEADER.encode(), b"").strip().decode("latin-1")
    if named:
        return names_of(entry).get(named)
    arms = arms_of(entry)
    if not arms:
        return entry.default
    key = headers.get(USER_HEADER.encode(), b"").strip()
    return arm_at(arms, point_of(salt_of(entry), key) if key else draw(WHOLE))


def _avalanche(number: int) -> int:
    """Spreads a checksum evenly over 32 bits. Source: HAProxy 2.8, `full_hash`, the converters' argument `avalanche`."""
    mask = 0xFFFFFFFF
    number = (number + 0x7ED55D16 + (number << 12)) & mask
    number = (number ^ 0xC761C23C ^ (number >> 19)) & mask
    number = (number + 0x165667B1 + (number << 5)) & mask
    number = ((number + 0xD3A2646C) ^ (number << 9)) & mask
    number = (number + 0xFD7046C5 + (number << 3)) & mask
    number = (number ^ 0xB55A4F09 ^ (number >> 16)) & mask
    return (number * 3221225473) & mask
