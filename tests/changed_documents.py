"""A document with one mistake in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def changed(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one place set; `None` takes it away. A number in the path is an index."""
    made = copy.deepcopy(dict(document))
    at: Any = made
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    for part in parents:
        at = at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return made
