"""What is written together: facts, documents and at most one idempotency key, made ready before the database sees them.

A batch is written whole or not at all.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

from fabric import codec
from fabric.errors import UserError
from fabric.journal.tables import KIND_CHARS, NAME_CHARS, SCHEMA_VERSION, STREAM_CHARS, SUBJECT_CHARS


@dataclass(frozen=True, slots=True)
class Batch:
    """`facts` (dataclasses) in their order, and `documents` by name, which replace those of the same name.

    `key` stands for the id `stands_for` in this stream from then on. Where it stands for an id already, nothing of the
    batch is written and `Written.taken_by` is that id. `wall_s`: when it happened; None: now.
    """

    stream: str
    facts: Sequence[Any] = ()
    documents: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    stands_for: str = ""
    wall_s: float | None = None


class Written(NamedTuple):
    """`seq`: the number of the batch's last fact; 0: it had none, or its key was taken by another id."""

    seq: int
    taken_by: str | None = None


class Ready(NamedTuple):
    """A batch as rows."""

    stream: str
    facts: list[dict[str, Any]]
    documents: list[dict[str, Any]]
    key: dict[str, str] | None


def ready(batch: Batch) -> Ready:
    """Raises: TypeError for what is not plain, UserError `bad_key` for a name that no database takes."""
    stream = _short(batch.stream, STREAM_CHARS)
    wall_s = time.time() if batch.wall_s is None else batch.wall_s
    facts = [
        {
            "stream": stream,
            "kind": _short(type(fact).__name__, KIND_CHARS),
            "schema": SCHEMA_VERSION,
            "wall_s": wall_s,
            "body": codec.dumps(fact),
            "subject": _subject(fact),
        }
        for fact in batch.facts
    ]
    return Ready(stream, facts, document_rows(stream, batch.documents), _key_row(stream, batch))


def document_rows(stream: str, documents: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"stream": stream, "name": _short(name, NAME_CHARS), "body": codec.dumps(body)} for name, body in documents.items()]


def _key_row(stream: str, batch: Batch) -> dict[str, str] | None:
    if batch.key is None:
        return None
    return {"stream": stream, "key": _short(batch.key, NAME_CHARS), "stands_for": _short(batch.stands_for, SUBJECT_CHARS)}


def _subject(fact: Any) -> str | None:
    kind: Any = type(fact)
    path = _subject_path(kind)
    return _short(attrgetter(path)(fact), SUBJECT_CHARS) if path else None


@functools.cache
def _subject_path(kind: Any) -> str:
    """Whose story a fact belongs to: its `job_id`, or that of its `spec`; else its `node_id`; else nobody's."""
    fields = get_type_hints(kind)
    if "job_id" in fields:
        return "job_id"
    if "job_id" in getattr(fields.get("spec"), "__annotations__", ()):
        return "spec.job_id"
    return "node_id" if "node_id" in fields else ""


def _short(name: str, most: int) -> str:
    """PostgreSQL refuses what SQLite takes: longer names, NUL, half a surrogate pair. Both are to refuse the same."""
    if len(name) > most or not name or "\0" in name or not (name.isascii() or _is_unicode(name)):
        raise UserError(f"{name[:40]!r} cannot name anything in the journal", code="bad_key", hint=f"1 to {most} printable characters")
    return name


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
