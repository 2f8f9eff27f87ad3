"""Answers as HTML, for notebooks: their blocks as text and tables, and every value of their form beneath.

Invariants: everything is escaped, names of jobs and users too; no script, no style from elsewhere and no request; readable on light and
dark ground, whose colours it takes from the notebook where that names them.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fabric.blocks import Block, Lines, Table
from fabric.fitted import printable

STYLE = """
.fabric-answer { --faint: var(--jp-ui-font-color2, color-mix(in srgb, currentColor 65%, transparent));
  --line: var(--jp-border-color2, color-mix(in srgb, currentColor 20%, transparent));
  --mark: var(--jp-brand-color1, #1976d2); color: var(--jp-ui-font-color1, inherit); font-size: 13px; line-height: 1.45; }
.fabric-answer .lines { margin: 0 0 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
.fabric-answer .wide { overflow-x: auto; margin: 0 0 8px; }
.fabric-answer table { border-collapse: collapse; margin: 0; border: 0; font-size: inherit; }
.fabric-answer th, .fabric-answer td { text-align: left; padding: 2px 10px 2px 0; border: 0; border-bottom: 1px solid var(--line);
  background: none; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; }
.fabric-answer th { color: var(--faint); font-weight: normal; }
.fabric-answer .figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.fabric-answer .marked td:first-child { box-shadow: inset 3px 0 var(--mark); padding-left: 8px; }
.fabric-answer .marked td { font-weight: 600; }
.fabric-answer summary { color: var(--faint); cursor: pointer; }
@media (prefers-color-scheme: dark) { .fabric-answer { --mark: var(--jp-brand-color1, #64b5f6); } }
"""


def answer_html(blocks: Sequence[Block], form: Mapping[str, Any]) -> str:
    """What a notebook shows of an answer. `form`: its JSON, of which every value can be unfolded."""
    shown = "".join(_block(block) for block in blocks)
    values = f"<details><summary>all values</summary>{_value(form)}</details>"
    return f'<style>{STYLE}</style><div class="fabric-answer">{shown}{values}</div>'


def text_html(text: str) -> str:
    """Plain text, as it stands."""
    return f"<pre>{escaped(text)}</pre>"


def escaped(text: str) -> str:
    """As text of an element or a quoted attribute; what steers terminals or the direction of text is shown as �."""
    return html.escape(printable(text), quote=True)


def _block(block: Block) -> str:
    if isinstance(block, Lines):
        return f'<p class="lines">{escaped(chr(10).join(line.strip() for line in block.lines))}</p>'
    after = f'<p class="lines">{escaped(block.after.strip())}</p>' if block.after else ""
    return f'<div class="wide">{_table(block)}</div>{after}'


def _table(block: Table) -> str:
    kinds = [' class="figure"' if name in block.right else "" for name in block.columns]
    head = "".join(f'<th scope="col"{kind}>{escaped(name)}</th>' for name, kind in zip(block.columns, kinds, strict=True))
    rows = []
    for number, row in enumerate(block.rows):
        cells = "".join(f"<td{kind}>{escaped(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        mark = ' class="marked"' if number == block.marked else ""
        rows.append(f"<tr{mark}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _value(value: Any) -> str:
    """A value of JSON: mappings as tables of two columns, lists of mappings as tables, all others as JSON has them."""
    if isinstance(value, Mapping):
        rows = "".join(f'<tr><th scope="row">{escaped(str(key))}</th><td>{_value(each)}</td></tr>' for key, each in value.items())
        return f"<table><tbody>{rows}</tbody></table>" if rows else "{}"
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
        return "".join(f"<div>{_value(each)}</div>" for each in value)
    return escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
