"""Decides whether dimension 0 of a model's tensors counts the rows of a batch, which may then come from several callers."""

from __future__ import annotations

import re
from collections.abc import Sequence

DEFAULT_MAX_BATCH_SIZE = 64
"""What a model with a batch dimension is given, as no file says how large a batch may be."""

Dimension = int | str | None
"""A size, a symbol's name, or None for any."""

_NOT_ROWS = re.compile(r"seq|len|time|token|step|frame|width|height", re.IGNORECASE)


def max_batch_size(shapes: Sequence[Sequence[Dimension]]) -> int:
    """`DEFAULT_MAX_BATCH_SIZE` where every input and output has the same open dimension 0, else 0.

    An open dimension whose symbol speaks of a sequence is none: rows of two callers, joined there, would be read as one text.
    """
    first: set[Dimension] = set()
    for shape in shapes:
        if not shape or (isinstance(shape[0], int) and shape[0] >= 0):
            return 0
        first.add(shape[0] if isinstance(shape[0], str) and shape[0] else None)
    if len(first) != 1:
        return 0
    symbol = next(iter(first))
    return 0 if isinstance(symbol, str) and _NOT_ROWS.search(symbol) else DEFAULT_MAX_BATCH_SIZE
