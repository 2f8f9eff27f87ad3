"""Facts to JSON and back: nothing is lost, and what another release wrote can be read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Literal, NamedTuple, NewType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric import codec, events, job_events
from fabric.errors import FabricError, RuntimeFault
from fabric.job import JobEstimate, JobId, JobSpec, LaunchSpec, Option, Shape
from fabric.job_events import JobEstimated, JobSubmitted, PolicyApplied
from fabric.states import JobState
from fabric.types import Lease

Name = NewType("Name", str)


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    BIG = 1


class Pair(NamedTuple):
    left: int
    right: float = 0.5


class Deep(NamedTuple):
    pair: Pair
    colour: Colour | None = None


@dataclass(frozen=True, slots=True)
class Part:
    amount: float
    unit: Literal["s", "usd"] = "s"


@dataclass(frozen=True, slots=True)
class Whole:
    name: Name
    colour: Colour
    size: Size
    part: Part
    maybe: Part | None
    pair: Pair
    deep: Deep
    parts: tuple[Part, ...]
    mixed: tuple[int, Part, str]
    by_name: Mapping[str, Part]
    by_pair: Mapping[tuple[int, Colour], tuple[Part, ...]]
    by_number: dict[int, str]
    texts: list[str]
    number: int | float | None
    free: Any = None
    tags: Mapping[Name, str] = field(default_factory=dict)


WHOLE = Whole(
    Name("n"),
    Colour.RED,
    Size.BIG,
    Part(1.5),
    None,
    Pair(1),
    Deep(Pair(2, 3.0), Colour.RED),
    (Part(1.0, "usd"), Part(2.0)),
    (1, Part(3.0), "x"),
    {"a": Part(4.0)},
    {(1, Colour.RED): (Part(5.0),)},
    {7: "seven"},
    ["a", "b"],
    2.5,
    {"free": [1, None, {"x": True}]},
    {Name("k"): "v"},
)


def through_json(value: Any) -> Any:
    return codec.decode(type(value), codec.loads(codec.dumps(value)))


def test_every_form_of_field_comes_back_as_it_was() -> None:
    assert through_json(WHOLE) == WHOLE
    assert repr(through_json(WHOLE)) == repr(WHOLE), "types too"


def test_what_is_written_is_plain_and_reads_by_name() -> None:
    plain = codec.encode(WHOLE)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["colour"] == "red"
    assert plain["part"] == {"amount": 1.5, "unit": "s"}
    assert plain["deep"] == [[2, 3.0], "red"]
    assert plain["by_pair"] == [[[1, "red"], [{"amount": 5.0, "unit": "s"}]]]
    assert plain["by_number"] == [[7, "seven"]]
    assert plain["tags"] == {"k": "v"}


TEXT, NUMBER = st.text(max_size=9), st.floats()
FREE = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
DOCUMENTS = st.dictionaries(TEXT, FREE, max_size=3)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
FACTS: dict[type, Any] = {
    JobSubmitted: st.builds(JobSubmitted, spec=st.builds(JobSpec, tags=TEXTS)),
    JobEstimated: st.builds(
        JobEstimated, estimate=st.builds(JobEstimate, rates=st.dictionaries(st.tuples(st.integers(), TEXT), NUMBER, max_size=3))
    ),
    PolicyApplied: st.builds(PolicyApplied, document=DOCUMENTS),
    LaunchSpec: st.builds(LaunchSpec, env=TEXTS, secrets=TEXTS, runtime_env=DOCUMENTS),
    events.LeaseGranted: st.builds(events.LeaseGranted, lease=st.builds(Lease, demand=st.dictionaries(TEXT, NUMBER, max_size=3))),
}


@pytest.mark.parametrize("kind", [*job_events.JOURNALLED.values(), *events.JOURNALLED.values(), JobEstimated, LaunchSpec])
def test_any_fact_of_the_journal_comes_back_as_it_was(kind: type) -> None:
    @settings(max_examples=40)
    @given(FACTS.get(kind, st.builds(kind)))
    def check(fact: Any) -> None:
        back = codec.fact_of({kind.__name__: kind}, kind.__name__, codec.loads(codec.dumps(fact)))
        fields = [field.name for field in dataclasses.fields(kind)]
        assert repr([getattr(back, name) for name in fields]) == repr([getattr(fact, name) for name in fields])

    check()


# A file's name that is no UTF-8 has these, each for one byte.
BYTES_IN_NAMES = st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]))


@given(st.floats() | st.integers() | st.text() | BYTES_IN_NAMES)
def test_any_number_and_any_text_comes_back_as_it_was(value: float | int | str) -> None:
    assert repr(codec.loads(codec.dumps(value))) == repr(value)


def test_deep_documents_come_back_too() -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert codec.loads(codec.dumps({"x": deep})) == {"x": deep}


def test_unknown_fields_are_ignored_and_missing_ones_take_their_defaults() -> None:
    plain = codec.encode(Shape("a100", 4, cpus=2.0))
    del plain["cpus"], plain["spread"]
    assert codec.decode(Shape, {**plain, "colour": "blue"}) == Shape("a100", 4)
    assert codec.decode(JobEstimate, {"work": 1.0, "rates": []}) == JobEstimate(1.0, {})


def test_a_default_that_is_made_anew_is_not_shared() -> None:
    spec = dict.fromkeys(("job_id", "name", "user", "queue", "priority", "form", "family"), "x")
    first, second = (codec.decode(JobSpec, {**spec, "shapes": [], "submitted_s": 0.0}) for _ in range(2))
    assert first.tags == {}
    assert first.tags is not second.tags


def test_rows_of_another_length_are_read_as_far_as_they_are_known() -> None:
    assert codec.decode(Pair, [3]) == Pair(3, 0.5)
    assert codec.decode(Option, [0, "a100", 1, 4.0, 2.5, "a field of tomorrow"]) == Option(0, "a100", 1, 4.0, 2.5)


def test_what_is_read_is_not_changed() -> None:
    plain = codec.encode(WHOLE)
    before = json.dumps(plain)
    codec.decode(Whole, plain)
    assert json.dumps(plain) == before


def test_a_kind_or_a_member_of_a_newer_release_is_told_so() -> None:
    for read in (
        lambda: codec.fact_of(job_events.JOURNALLED, "JobTeleported", {}),
        lambda: codec.decode(JobState, "TELEPORTED"),
    ):
        with pytest.raises(FabricError) as caught:
            read()
        assert caught.value.code == "journal_newer"
        assert "newer release" in str(caught.value.hint)


def test_a_missing_field_without_a_default_is_our_error() -> None:
    with pytest.raises(RuntimeFault, match="JobSubmitted in the journal lacks spec") as caught:
        codec.decode(JobSubmitted, {"by": "ann"})
    assert caught.value.code == "journal"


@dataclass(frozen=True)
class Ambiguous:
    what: Part | Pair


@dataclass(frozen=True)
class Endless:
    inner: tuple[Endless, ...]


@dataclass(frozen=True)
class Odd:
    what: set[int]


@pytest.mark.parametrize("fact", [Ambiguous(Part(1.0)), Endless(()), Odd({1})], ids=lambda fact: type(fact).__name__)
def test_a_class_that_cannot_be_kept_is_refused_when_it_is_written(fact: Any) -> None:
    with pytest.raises(TypeError, match="does not belong in the journal"):
        codec.dumps(fact)


def test_a_value_that_cannot_be_kept_is_refused() -> None:
    for value in (PolicyApplied(1, {"x": object()}, "ann"), {"x": object()}):
        with pytest.raises(TypeError, match="object does not belong in the journal"):
            codec.dumps(value)


def test_a_job_id_is_written_as_its_text() -> None:
    assert codec.encode(JobEstimated(JobId("j"), JobEstimate(2.0, {(0, "t4"): 0.5}, 0.1))) == {
        "job_id": "j",
        "estimate": {"work": 2.0, "rates": [[[0, "t4"], 0.5]], "log_sd": 0.1},
    }
