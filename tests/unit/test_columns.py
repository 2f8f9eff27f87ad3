"""Many rows in few bytes: they come back as they were, shared where that is safe."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric import codec, columns
from fabric.errors import FabricError, RuntimeFault
from fabric.job import Grant, JobEstimate, JobId, JobSpec, Option, Shape
from fabric.states import JobState


@dataclass(slots=True)
class Row:
    """A record that may be changed, as a scheduler keeps it."""

    spec: JobSpec
    state: JobState = JobState.PENDING
    done: float = 0.0
    grant: Grant | None = None
    estimate: JobEstimate | None = None
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


def spec(number: int, **more: Any) -> JobSpec:
    fields = {"user": f"user-{number % 3}", "tags": {"team": f"t{number % 2}"}, "shapes": (Shape("a100", number % 4),), **more}
    return JobSpec(
        JobId(f"job-{number}"), f"name-{number}", queue="q", priority="p", form="program", family="f", submitted_s=number + 0.25, **fields
    )


def row(number: int) -> Row:
    grant = Grant(Option(0, "t4", 1, 1.0, number / 7), (f"node-{number}",)) if number % 2 else None
    estimate = JobEstimate(float(number), {(0, "t4"): number / 3}, 0.5) if number % 5 else None
    return Row(spec(number), JobState.RUNNING if grant else JobState.PENDING, number / 9, grant, estimate, ["same"], {"same": 1})


def again(rows: Sequence[Any], kind: type, **options: Any) -> list[Any]:
    return [one for chunk in columns.unpack({kind.__name__: kind}, columns.pack(rows, **options)) for one in chunk.rows]


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 100])
def test_rows_come_back_as_they_were_and_in_order(count: int) -> None:
    rows = [row(number) for number in range(count)]
    assert again(rows, Row, chunk_rows=10) == rows


FIELDS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
NUMBER = st.floats(allow_nan=False)
MAYBE = st.none() | NUMBER
SHAPES = st.lists(st.builds(Shape, cpus=NUMBER), max_size=2).map(tuple)
SPECS = st.builds(
    JobSpec,
    shapes=SHAPES,
    submitted_s=NUMBER,
    deadline_s=MAYBE,
    budget_usd=MAYBE,
    timeout_s=MAYBE,
    array_id=st.none() | st.text(),
    tags=FIELDS,
)


@settings(max_examples=40)
@given(st.lists(st.builds(Row, spec=SPECS, done=NUMBER, free=FIELDS), max_size=7))
def test_any_rows_come_back_as_they_were(rows: list[Row]) -> None:
    assert again(rows, Row, chunk_rows=3) == rows


def test_rows_of_several_classes_follow_each_other() -> None:
    specs, rows = [spec(1), spec(2)], [row(3)]

    def chunks() -> Iterator[bytes]:
        yield from columns.pack(specs)
        yield from columns.pack(rows)

    kinds = {"JobSpec": JobSpec, "Row": Row, "Unused": Shape}
    assert columns.unpack_all(kinds, chunks()) == {"JobSpec": specs, "Row": rows, "Unused": []}
    gc.unfreeze()


def test_values_that_come_again_are_one_object_also_across_chunks() -> None:
    specs = [spec(number) for number in range(40)]
    back = again(specs, JobSpec, chunk_rows=20)
    assert len({id(one.user) for one in back}) == 3
    assert len({id(one.shapes) for one in back}) == 4


def test_what_may_be_changed_is_never_shared() -> None:
    first, second = again([row(1), row(3)], Row)
    first.notes.append("only mine")
    first.counts["only mine"] = 1
    assert (second.notes, second.counts) == (["same"], {"same": 1})
    first, second = again([row(1), row(3)], Row, leave_out={"notes", "counts"})
    first.notes.append("only mine")
    assert second.notes == []


def test_fields_that_are_left_out_take_their_defaults() -> None:
    rows = [row(number) for number in range(5)]
    back = again(rows, Row, leave_out={"grant", "notes"})
    assert {one.grant for one in back} == {None}
    assert [one.notes for one in back] == [[]] * 5
    assert [one.spec for one in back] == [one.spec for one in rows]


@dataclass(frozen=True, slots=True)
class Selfish:
    """Refers to its own class: only without that field can it be kept."""

    number: int
    others: tuple[Selfish, ...] = ()


def test_a_field_that_cannot_be_kept_may_be_left_out() -> None:
    assert again([Selfish(1), Selfish(2)], Selfish, leave_out={"others"}) == [Selfish(1), Selfish(2)]


@dataclass(frozen=True, slots=True)
class Old:
    name: str
    gone: int = 0


@dataclass(frozen=True, slots=True)
class New:
    name: str
    colour: str = "red"
    tags: Mapping[str, str] = field(default_factory=dict)


def test_an_older_snapshot_opens_in_a_newer_release() -> None:
    chunks = columns.pack([Old("a", 1), Old("b", 2)])
    ((_, rows),) = columns.unpack({"Old": New}, chunks)
    assert rows == [New("a"), New("b")]


def test_a_newer_snapshot_and_a_damaged_one_are_told_apart() -> None:
    (chunk,) = columns.pack([Old("a")])
    newer = zlib.compress(codec.dumps({**codec.loads(zlib.decompress(chunk)), "format": 99}).encode())
    unknown = zlib.compress(codec.dumps({"format": 1, "kind": "Unheard", "rows": 0, "columns": {}}).encode())
    for bad in (newer, unknown):
        with pytest.raises(FabricError) as caught:
            list(columns.unpack({"Old": Old}, [bad]))
        assert caught.value.code == "journal_newer"
    for bad in (b"", chunk[:-3], zlib.compress(b"{")):
        with pytest.raises(RuntimeFault) as damaged:
            list(columns.unpack({"Old": Old}, [bad]))
        assert damaged.value.code == "journal"


def test_a_column_that_has_no_default_cannot_be_missing() -> None:
    with pytest.raises(RuntimeFault, match="Old in the journal lacks name"):
        again([Old("a")], Old, leave_out={"name"})


def test_the_garbage_collector_is_as_it_was_afterwards() -> None:
    again([row(1)], Row)
    assert gc.isenabled()
    gc.disable()
    try:
        again([row(1)], Row)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_ten_thousand_alike_jobs_take_little_room() -> None:
    chunks = list(columns.pack([spec(number) for number in range(10_000)]))
    assert len(chunks) == 1
    assert len(chunks[0]) < 200_000
