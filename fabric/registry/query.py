"""What is looked for among versions, in which order, and where the next page goes on: pure.

A cursor holds the place of the page's last row, not a count: rows that come or go meanwhile make no other row appear twice or never.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric.errors import UnknownNameError, UserError
from fabric.registry.limits import MAX_METRIC, check_metadata, check_text
from fabric.registry.names import check_alias, check_name
from fabric.registry.version import STATES, ModelVersion

MAX_PAGE = 1000
MAX_WORDS, MAX_QUERY_TEXT = 16, 256
SORTS = ("created", "name", "size")
METRIC = "metric:"
ANY_STATE = "any"


@dataclass(frozen=True, slots=True)
class Query:
    """All that is given must hold. `text`: words, each of which stands somewhere in name, framework, source or metadata, in any case of
    letters. `sort`: `created`, `name`, `size` or `metric:<name>` (then only those that have it), with `-` before it from the highest
    down. `cursor`: from the page before."""

    text: str = ""
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    framework: str = ""
    state: str = "active"
    user: str = ""
    alias: str = ""
    sort: str = "-created"
    limit: int = 50
    cursor: str = ""

    def check(self) -> None:
        """Raises: UserError (`bad_…`), UnknownNameError (`unknown_sort`, `unknown_state`)."""
        check_text("text", self.text, MAX_QUERY_TEXT)
        check_text("framework", self.framework, 64)
        check_text("user", self.user, 128)
        check_metadata(self.metadata)
        if len(self.text.split()) > MAX_WORDS:
            raise UserError(f"a search for more than {MAX_WORDS} words", code="bad_text")
        if self.name:
            check_name(self.name)
        if self.alias:
            check_alias(self.alias)
        if self.state not in (*STATES, ANY_STATE):
            raise UnknownNameError.of("state", self.state, (*STATES, ANY_STATE))
        if not 1 <= self.limit <= MAX_PAGE:
            raise UserError(f"limit is {self.limit}", code="bad_limit", hint=f"1 to {MAX_PAGE}")
        order = self.order
        if not order.metric and order.by not in SORTS:
            raise UnknownNameError.of("sort", order.by, (*SORTS, f"{METRIC}<name>"))

    @property
    def order(self) -> Order:
        by = self.sort.removeprefix("-")
        metric = by.removeprefix(METRIC) if by.startswith(METRIC) else ""
        return Order(check_text("sort", by, MAX_METRIC + len(METRIC)), self.sort.startswith("-"), metric)


class Order(NamedTuple):
    """`metric`: the metric's name, where that is what is sorted by."""

    by: str
    is_descending: bool
    metric: str = ""


class Place(NamedTuple):
    """Where a row stands: its value of what is sorted by, then its name, then its number, the newest first."""

    value: float | str
    name: str
    number: int


class Page(NamedTuple):
    """`cursor`: where the next page begins; None: this is the last one."""

    versions: tuple[ModelVersion, ...]
    cursor: str | None


def write_cursor(sort: str, place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, *place], separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(sort: str, cursor: str) -> Place:
    """Raises: UserError (`bad_cursor`)."""
    try:
        told, value, name, number = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        is_sound = told == sort and type(value) in (str, float, int) and isinstance(name, str) and type(number) is int
    except (ValueError, TypeError, binascii.Error):
        is_sound = False
    if not is_sound or (isinstance(value, str) != (sort.removeprefix("-") == "name")):
        raise UserError("that cursor is not of this search", code="bad_cursor", hint="leave it out, and begin anew")
    return Place(value, name, number)
