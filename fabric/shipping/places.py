"""Where in the store the copies of one database lie, and which of them are whole.

    shipping/<fabric>/owner.json
    shipping/<fabric>/<database>/<timeline>/<base>/part/<part>       a copy of all pages, read while others wrote
                                                   /change/<change>  every change since, up to the next base
                                                   /whole.json       says how many parts and changes make it a database

Timelines and bases are named so that the newest sorts last. A base is called by the number of the first change behind it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError
from fabric.shipping.piece import Label, corrupt

_DIGITS = 12
_KEY = re.compile(r"(?P<timeline>[^/]+)/(?P<base>\d+)/(?:(?P<kind>part|change)/(?P<number>\d+)|whole\.json)")


@dataclass(slots=True)
class Base:
    """What the store has of one: the numbers of its parts, and of the changes that lie with it."""

    timeline: str
    number: int
    is_marked: bool = False
    parts: set[int] = field(default_factory=set)
    changes: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Mark:
    """A base is a database once changes up to `needs` are laid over its `num_parts` parts, numbered from 0."""

    num_parts: int
    needs: int


class Places:
    """Of one `database` of the fabric called `fabric`."""

    def __init__(self, fabric: str, database: str) -> None:
        self.top = f"{folder(fabric)}/{database}"

    def key(self, label: Label) -> str:
        kind, number = ("change", label.change) if label.change else ("part", label.part)
        return f"{self.base(label.timeline, label.base)}/{kind}/{number:0{_DIGITS}d}"

    def base(self, timeline: str, number: int) -> str:
        return f"{self.top}/{timeline}/{number:0{_DIGITS}d}"

    def mark(self, timeline: str, number: int) -> str:
        return f"{self.base(timeline, number)}/whole.json"

    def bases(self, keys: Iterable[str]) -> list[Base]:
        """All that these keys belong to, oldest first; keys of another form are passed over."""
        found: dict[tuple[str, int], Base] = {}
        for key in keys:
            match = _KEY.fullmatch(key.removeprefix(f"{self.top}/"))
            if match is None:
                continue
            at = match["timeline"], int(match["base"])
            base = found.setdefault(at, Base(*at))
            if match["kind"] is None:
                base.is_marked = True
            else:
                (base.parts if match["kind"] == "part" else base.changes).add(int(match["number"]))
        return [found[at] for at in sorted(found)]


def folder(fabric: str) -> str:
    """A fabric's own, whatever it is called."""
    return f"shipping/{quote(fabric, safe='').replace('.', '%2E')}"


def new_timeline(epoch: int, known: Iterable[Base], mark: str) -> str:
    """A name behind all of this epoch. `mark` tells apart what two that start at once would call the same."""
    mine = [base.timeline for base in known if base.timeline.startswith(f"{epoch:0{_DIGITS}d}-")]
    count = max((int(name.split("-")[1]) for name in mine), default=0) + 1
    return f"{epoch:0{_DIGITS}d}-{count:06d}-{mark}"


def superfluous(bases: list[Base], timeline: str, keep: int = 2) -> list[Base]:
    """What may be deleted once `timeline` has a whole base: all but the newest `keep` whole ones and what lies behind them. Of later
    timelines nothing: they are another's."""
    whole = [base for base in bases if base.is_marked and base.timeline <= timeline][-keep:]
    if not whole:
        return []
    first: dict[str, int] = defaultdict(lambda: 1 << 62)
    for base in whole:
        first[base.timeline] = min(first[base.timeline], base.number)
    return [base for base in bases if base.timeline <= timeline and base.number < first[base.timeline]]


def mark_bytes(mark: Mark) -> bytes:
    return json.dumps({"version": 1, "parts": mark.num_parts, "needs": mark.needs}).encode()


def read_mark(store: ArtefactStore, key: str) -> Mark:
    """Raises: RuntimeFault (`copy_corrupt`, `storage_failed`)."""
    try:
        document: dict[str, Any] = json.loads(store.read_bytes(key))
        return Mark(int(document["parts"]), int(document["needs"]))
    except FabricError as error:
        if error.code != "artefact_not_found":
            raise
        raise corrupt(f"{key} is gone") from error
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(f"{key} is not what was stored there") from error
