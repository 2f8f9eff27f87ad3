"""The head's record of its machines: each in one use at a time, names that never come back, rests that grow."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fabric.machines import book as book_module
from fabric.machines.book import FIRST_REST_S, LONGEST_REST_S, Book

HOSTS = ["a", "b", "c"]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(book_module, "time", SimpleNamespace(time=made.time))
    return made


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Book:
    return Book(tmp_path / "deep" / "machines.json")


def taken(book: Book, count: int = 1, hosts: list[str] | None = None) -> list[str]:
    return [entry.host for entry in book.take("hot", hosts or HOSTS, count, {"kind": "worker"})]


def test_machines_are_taken_in_order_and_only_where_they_are_free(book: Book) -> None:
    assert book.entries() == {}
    first = book.take("hot", HOSTS, 2, {"k": "v"})
    assert [(e.host, e.node_type, e.instance_id, e.state, e.tags) for e in first] == [
        ("a", "hot", "a-1", "starting", {"k": "v"}),
        ("b", "hot", "b-2", "starting", {"k": "v"}),
    ]
    assert taken(book, 5) == ["c"] and taken(book) == []
    assert book.entries()["a"] == first[0] and all(entry.is_in_use for entry in book.entries().values())


def test_a_machine_that_was_given_back_is_taken_under_a_new_name(book: Book) -> None:
    taken(book)
    book.forget("a")
    assert "a" not in book.entries()
    assert book.take("hot", ["a"], 1, {})[0].instance_id == "a-2"
    book.clear()
    assert book.entries() == {} and book.take("hot", ["a"], 1, {})[0].instance_id == "a-3"
    book.forget("nobody"), book.settle("nobody", "failed"), book.tag("nobody", {"x": "y"})
    assert set(book.entries()) == {"a"}


def test_a_machine_that_failed_rests_twice_as_long_each_time_up_to_ten_minutes(book: Book, clock: Clock) -> None:
    rests = []
    for _ in range(8):
        assert taken(book, hosts=["a"]) == ["a"]
        book.settle("a", "failed", "no disk")
        entry = book.entries()["a"]
        assert (entry.is_in_use, entry.reason) == (False, "no disk")
        rests.append(entry.rests_until_s - clock.now_s)
        clock.now_s = entry.rests_until_s - 0.001
        assert taken(book, hosts=["a"]) == []
        clock.now_s = entry.rests_until_s
    assert rests[:5] == [FIRST_REST_S * 2**i for i in range(5)] and rests[5:] == [LONGEST_REST_S] * 3


def test_a_start_that_came_to_its_end_well_forgives_earlier_failures(book: Book, clock: Clock) -> None:
    for _ in range(3):
        taken(book, hosts=["a"])
        book.settle("a", "failed", "x")
        clock.now_s += LONGEST_REST_S
    taken(book, hosts=["a"])
    book.settle("a", "stopping")
    assert book.entries()["a"].failures == 3
    book.settle("a", "running")
    assert (book.entries()["a"].failures, book.entries()["a"].state, book.entries()["a"].since_s) == (0, "running", clock.now_s)


def test_those_that_failed_less_often_are_taken_first(book: Book, clock: Clock) -> None:
    for host, failures in (("a", 2), ("b", 1)):
        for _ in range(failures):
            taken(book, hosts=[host])
            book.settle(host, "failed", "x")
            clock.now_s += LONGEST_REST_S
    assert taken(book, 3) == ["c", "b", "a"]


def test_a_launch_keeps_what_runs_and_takes_the_rest_resting_or_not(book: Book) -> None:
    running = book.take("hot", ["a"], 1, {})[0]
    taken(book, hosts=["b"])
    book.settle("b", "failed", "no disk")
    claimed = book.claim({"a": "hot", "b": "hot", "c": "cold"}, {"hot": {"t": "hot"}, "cold": {"t": "cold"}})
    assert claimed["a"] == running and list(claimed) == ["a", "b", "c"]
    assert [(claimed[host].node_type, claimed[host].state, claimed[host].tags) for host in "bc"] == [
        ("hot", "starting", {"t": "hot"}),
        ("cold", "starting", {"t": "cold"}),
    ]
    assert book.claim({"a": "hot", "b": "hot", "c": "cold"}, {}) == claimed
    assert len({entry.instance_id for entry in claimed.values()}) == 3


def test_tags_are_added_to(book: Book) -> None:
    taken(book)
    book.tag("a", {"status": "up"})
    book.tag("a", {"status": "down", "more": "1"})
    assert book.entries()["a"].tags == {"kind": "worker", "status": "down", "more": "1"}


def test_another_process_reads_what_one_wrote(tmp_path: Path, clock: Clock) -> None:
    one, other = Book(tmp_path / "m.json"), Book(tmp_path / "m.json")
    taken(one)
    other.settle("a", "running")
    assert one.entries() == other.entries() and one.entries()["a"].state == "running"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.lock"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "{}", '{"counter": 1}', '{"counter": 1, "machines": {"a": {}}}', '{"counter": 1, "machines": []}',
     '{"counter": "x", "machines": {}}', '{"counter": 1, "machines": {"a": 1}}', "\udcff"],
)  # fmt: skip
def test_a_broken_record_is_made_anew_and_repeats_no_name(tmp_path: Path, clock: Clock, text: str) -> None:
    path = tmp_path / "machines.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    book = Book(path)
    assert book.entries() == {}
    (entry,) = book.take("hot", ["a"], 1, {})
    assert entry.instance_id == f"a-{int(clock.now_s) + 1}" and book.entries() == {"a": entry}
    assert json.loads(path.read_text())["counter"] == int(clock.now_s) + 1


# -- any order of doings ---------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """A launch and an autoscaler that work with one record, against a model of who holds what."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self._real = book_module.time
        book_module.time = SimpleNamespace(time=self.clock.time)  # type: ignore[assignment]
        self._folder = tempfile.TemporaryDirectory()
        self.book = Book(Path(self._folder.name) / "m.json")
        self.held: dict[str, str] = {}
        self.failures: dict[str, int] = {}
        self.names: set[str] = set()
        self.counter = 0

    def teardown(self) -> None:
        if hasattr(self, "_folder"):
            book_module.time = self._real
            self._folder.cleanup()

    def note(self, entries: Any) -> None:
        for entry in entries:
            assert entry.host not in self.held, "taken twice"
            assert entry.instance_id not in self.names, "a name came back"
            self.held[entry.host] = entry.instance_id
            self.names.add(entry.instance_id)

    @rule(hosts=st.lists(st.sampled_from(HOSTS), unique=True), count=st.integers(0, 4))
    def take(self, hosts: list[str], count: int) -> None:
        before = self.book.entries()
        ready = [host for host in hosts if host not in before or (host not in self.held and before[host].rests_until_s <= self.clock.now_s)]
        entries = self.book.take("hot", hosts, count, {})
        assert len(entries) == min(count, len(ready)) and {entry.host for entry in entries} <= set(ready)
        left = [self.failures.get(host, 0) for host in ready if host not in {entry.host for entry in entries}]
        assert not left or not entries or max(self.failures.get(entry.host, 0) for entry in entries) <= min(left)
        self.note(entries)

    @rule(hosts=st.sets(st.sampled_from(HOSTS), min_size=1))
    def claim(self, hosts: set[str]) -> None:
        claimed = self.book.claim(dict.fromkeys(hosts, "cold"), {})
        assert set(claimed) == hosts
        for host, entry in claimed.items():
            assert entry.is_in_use
            if host in self.held:
                assert entry.instance_id == self.held[host]
            else:
                self.failures[host] = 0
                self.note([entry])

    @rule(host=st.sampled_from(HOSTS), state=st.sampled_from(["running", "stopping", "failed"]))
    def settle(self, host: str, state: str) -> None:
        if host in self.held:
            self.book.settle(host, state, "x")
            if state == "failed":
                self.held.pop(host)
                self.failures[host] = self.failures.get(host, 0) + 1
            elif state == "running":
                self.failures[host] = 0

    @rule(host=st.sampled_from(HOSTS))
    def forget(self, host: str) -> None:
        self.book.forget(host)
        self.held.pop(host, None)
        self.failures.pop(host, None)

    @precondition(lambda self: len(self.names) > 3)
    @rule()
    def clear(self) -> None:
        self.book.clear()
        self.held.clear()
        self.failures.clear()

    @rule(seconds=st.sampled_from([1.0, FIRST_REST_S, LONGEST_REST_S]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @invariant()
    def the_record_says_who_holds_what(self) -> None:
        if not hasattr(self, "book"):
            return
        entries = self.book.entries()
        assert {host: entry.instance_id for host, entry in entries.items() if entry.is_in_use} == self.held
        assert {host: entry.failures for host, entry in entries.items()} == {host: self.failures.get(host, 0) for host in entries}
        path = Path(self._folder.name) / "m.json"
        counter = json.loads(path.read_text())["counter"] if path.exists() else 0
        assert counter >= self.counter and counter == len(self.names)
        self.counter = counter


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
