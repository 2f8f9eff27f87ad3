"""What an answer says, as lines and tables of words: the same for a terminal and for a page. Pure.

Whoever knows a form makes blocks of it once; `text_of` prints them, `fabric.notebook` makes HTML of them. No markup stands in a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fabric.fitted import fitted, printable
from fabric.show import table


@dataclass(frozen=True, slots=True)
class Lines:
    """Sentences, one a line."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """`right`: columns of figures; `most`: column -> its most characters on a terminal; `marked`: the number of a row that matters, from 0;
    `after`: a line that belongs to it. `is_framed`: it folds what is too wide instead of cutting it off."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()
    most: Mapping[str, int] = field(default_factory=dict)
    marked: int | None = None
    after: str = ""
    is_framed: bool = False


Block = Lines | Table


def text_of(blocks: Sequence[Block]) -> str:
    """For a terminal, an empty line between blocks; without what would steer it."""
    return printable("\n\n".join(_text(block) for block in blocks))


def _text(block: Block) -> str:
    if isinstance(block, Lines):
        return "\n".join(block.lines)
    if block.is_framed:
        shown = table(block.columns, block.rows, right=[i for i, name in enumerate(block.columns) if name in block.right])
    else:
        shown = fitted(block.columns, block.rows, most=block.most, right=block.right)
    return f"{shown}\n{block.after}" if block.after else shown
