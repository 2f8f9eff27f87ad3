"""Whatever is written and whenever: each prefix of what was shipped is the database as it was at a commit."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.errors import FabricError
from fabric.shipping import shipper as shipper_module
from fabric.shipping import source as source_module
from fabric.shipping.copy import make_database
from fabric.shipping.piece import Label
from fabric.shipping.places import Places, read_mark
from tests.unit.shipping.conftest import FABRIC, Lab, at_once, contents


def put_many(lab: Lab, first: int, number: int, end: str) -> None:
    lab.run("PRAGMA cache_size=2")  # so that it reaches the log before its end
    lab.run("BEGIN")
    for each in range(number):
        lab.put(first + each, 7000)
    lab.run(end)


def read_or_not(reader: sqlite3.Connection, is_open: bool) -> None:
    if is_open and not reader.in_transaction:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM t").fetchone()
    elif not is_open and reader.in_transaction:
        reader.execute("COMMIT")


DOES: dict[str, Callable[[Lab, sqlite3.Connection, int, int], object]] = {
    "put": lambda lab, reader, number, size: lab.put(number, size),
    "many": lambda lab, reader, number, size: put_many(lab, 100, number, "COMMIT"),
    "roll back": lambda lab, reader, number, size: put_many(lab, 200, number, "ROLLBACK"),
    "delete": lambda lab, reader, number, size: lab.run("DELETE FROM t WHERE k <= ?", number),
    "checkpoint": lambda lab, reader, number, size: lab.run("PRAGMA wal_checkpoint(PASSIVE)"),
    "vacuum": lambda lab, reader, number, size: None if reader.in_transaction else lab.run("VACUUM"),
    "open reader": lambda lab, reader, number, size: read_or_not(reader, True),
    "close reader": lambda lab, reader, number, size: read_or_not(reader, False),
    "ship": lambda lab, reader, number, size: lab.ship(),
    "turn": lambda lab, reader, number, size: lab.turn(),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*DOES, "put", "put", "turn", "turn", "turn"]), st.integers(1, 30), st.sampled_from([1, 900, 20_000])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_prefix_of_what_was_shipped_is_a_moment_of_the_database(steps: list[tuple[str, int, int]]) -> None:
    """With a log that is written back at every occasion, parts of a few pages, and new bases all the time."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "SOFT_FRAMES", 5)
        patch.setattr(source_module, "HARD_FRAMES", 12)
        patch.setattr(source_module, "MOST_FRAMES", 7)
        patch.setattr(shipper_module, "PART_BYTES", 3 * 4096)
        patch.setattr(shipper_module, "MIN_BASE_BYTES", 30_000)
        lab = Lab(Path(folder))
        reader = sqlite3.connect(lab.file, isolation_level=None)
        moments = {tuple(contents(lab.file))}
        for what, number, size in steps:
            DOES[what](lab, reader, number, size)
            moments.add(tuple(contents(lab.file)))
            made, copied = lab.copy()
            assert made is None or tuple(copied) in moments
        lab.ship()
        made, copied = lab.copy()
        assert made is not None and made.problems == ()
        assert copied == contents(lab.file)
        # From every base that is kept, not from the newest alone.
        for base in [one for one in lab.places.bases(lab.keys()) if one.is_marked][:-1]:
            for later in lab.places.bases(lab.keys()):
                if later.is_marked and (later.timeline, later.number) > (base.timeline, base.number):
                    lab.path(lab.places.mark(later.timeline, later.number)).unlink()
            assert lab.copy()[1] == contents(lab.file)
        reader.close()
        lab.close()


def test_a_small_commit_ships_a_few_pages_not_the_database(lab: Lab) -> None:
    lab.run("BEGIN")
    for number in range(400):
        lab.put(number, 10_000)
    lab.run("COMMIT")
    lab.ship()
    before = lab.shipper.status(lab.now_s)
    assert before["bytes"] > 4_000_000
    for number in range(20):
        lab.put(1000 + number, 100)
        lab.ship()
    after = lab.shipper.status(lab.now_s)
    assert after["changes"] - before["changes"] == 20
    assert (after["bytes"] - before["bytes"]) / 20 < 10_000
    assert lab.copy()[1] == contents(lab.file)


def test_the_log_does_not_grow_for_being_read(lab: Lab) -> None:
    lab.ship()
    for number in range(600):
        lab.put(number % 50, 9000)
        if number % 20 == 0:
            lab.turn()
    assert lab.file.with_name("journal.db-wal").stat().st_size < 2 * source_module.HARD_FRAMES * 4120
    lab.ship()
    assert lab.copy()[1] == contents(lab.file)


def test_what_is_read_in_portions_is_not_lost_when_the_log_is_written_back_meanwhile(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.ship()
    monkeypatch.setattr(source_module, "MOST_FRAMES", 7)
    for number in range(12):
        lab.put(number, 20_000)
    for number in range(4):
        lab.turn()
        lab.run("PRAGMA wal_checkpoint(PASSIVE)")
        lab.turn()
        lab.put(100 + number, 50)
    lab.ship()
    for _ in range(20):
        lab.turn()
    assert lab.copy()[1] == contents(lab.file)
    assert len({key.split("/")[3] for key in lab.keys("/journal/")}) == 1


def test_a_base_without_the_changes_that_were_made_while_it_was_read_is_no_copy(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper_module, "PART_BYTES", 4 * 4096)
    for number in range(20):
        lab.put(number, 9000)
    lab.run("PRAGMA wal_checkpoint(PASSIVE)")
    while (copying := lab.shipper._copying) is None or copying.needs is None:
        lab.put(3, 9000)
        lab.turn()
    lab.ship()
    last = lab.keys("/change/")[-1]
    assert read_mark(lab.store, lab.keys("whole.json")[0]).needs == int(last.split("/")[-1])
    assert lab.copy()[1] == contents(lab.file)
    lab.path(last).unlink()
    with pytest.raises(FabricError, match="lacks changes that belong to it"):
        lab.copy()


def test_a_new_base_comes_when_changes_weigh_as_much_and_old_ones_go(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper_module, "MIN_BASE_BYTES", 100_000)
    for number in range(200):
        lab.put(number % 7, 5000)
        lab.ship()
    bases = lab.places.bases(lab.keys())
    assert 2 <= len([base for base in bases if base.is_marked]) <= 3
    assert bases[0].is_marked and bases[0].number > 1
    assert lab.shipper.status(lab.now_s)["bytes"] > 4 * sum(lab.path(key).stat().st_size for key in lab.keys("000"))
    assert lab.copy()[1] == contents(lab.file)


class Broken:
    """A store that takes nothing, or only part of what it is given, while `is_broken`."""

    def __init__(self, lab: Lab, patch: pytest.MonkeyPatch) -> None:
        self.is_broken = True
        write = lab.store._fs.open

        def torn(path: str, mode: str = "rb", **more: object) -> object:
            file = write(path, mode, **more)
            if self.is_broken and "w" in mode:
                whole = file.write

                def some(data: bytes) -> None:
                    whole(data[: len(data) // 2])
                    raise OSError(5, "the line is cut")

                file.write = some
            return file

        patch.setattr(lab.store, "_fs", _Forward(lab.store._fs, torn))


class _Forward:
    def __init__(self, fs: object, opening: object) -> None:
        self._fs, self.open = fs, opening

    def __getattr__(self, name: str) -> object:
        return getattr(self._fs, name)


def test_an_upload_that_is_cut_off_leaves_the_state_before_it_and_is_made_good(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.put(1)
    lab.ship()
    before = contents(lab.file)
    line = Broken(lab, monkeypatch)
    lab.put(2)
    for _ in range(5):
        lab.turn()
        lab.put(3)
        assert lab.copy()[1] == before
    status = lab.shipper.status(lab.now_s)
    assert status["state"] == "failing" and "the line is cut" in str(status["error"])
    assert status["lag_s"] is not None and status["lag_s"] >= 5
    line.is_broken = False
    lab.now_s += 60
    lab.ship()
    status = lab.shipper.status(lab.now_s)
    assert (status["state"], status["error"], status["lag_s"]) == ("shipping", None, 0)
    assert lab.copy()[1] == contents(lab.file)
    assert len({key.split("/")[3] for key in lab.keys("/journal/")}) == 1, "nothing had to begin anew"


def test_a_store_that_stays_away_does_not_fill_memory_or_the_local_disk(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper_module, "MAX_PENDING_BYTES", (100_000, 100_000))
    lab.put(1)
    lab.ship()
    line = Broken(lab, monkeypatch)
    sizes = []
    for number in range(2000):
        lab.put(number % 40, 9000)
        lab.turn()
        sizes.append(lab.file.with_name("journal.db-wal").stat().st_size)
    assert max(sizes) < 2 * 1000 * 4120, "SQLite's own measure"
    line.is_broken = False
    lab.now_s += 60
    lab.ship()
    assert lab.copy()[1] == contents(lab.file)
    assert len({key.split("/")[3] for key in lab.keys("/journal/")}) == 2, "a new timeline"


def test_while_the_store_takes_its_time_the_file_is_followed(lab: Lab) -> None:
    lab.ship()
    waiting: list[tuple[Future[object], object]] = []

    def later(call: object) -> Future[object]:
        future: Future[object] = Future()
        waiting.append((future, call))
        return future

    lab.shipper._submit = later
    for number in range(300):
        lab.put(number)
        lab.turn()
    assert len(waiting) == 1, "one errand at a time"
    assert lab.file.with_name("journal.db-wal").stat().st_size < 3 * 1000 * 4120
    future, call = waiting[0]
    lab.shipper._submit = at_once
    future.set_result(call())  # type: ignore[operator]
    lab.ship()
    assert lab.shipper.status(lab.now_s)["changes"] == 2, "all that came meanwhile is one"
    assert lab.copy()[1] == contents(lab.file)


def test_a_file_that_is_replaced_is_not_shipped_on_the_old_line(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.put(1)
    lab.ship()
    with closing(sqlite3.connect(lab.folder / "other.db")) as other:
        other.executescript("PRAGMA journal_mode=WAL; CREATE TABLE u (x); INSERT INTO u VALUES (7)")
    lab.database.close()
    for suffix in ("-wal", "-shm"):
        lab.file.with_name(lab.file.name + suffix).unlink(missing_ok=True)
    (lab.folder / "other.db").rename(lab.file)
    lab.database = sqlite3.connect(lab.file, isolation_level=None)
    with caplog.at_level(logging.WARNING):
        lab.turn()
    assert "begins anew" in caplog.text
    lab.now_s += 60
    lab.ship()
    assert lab.copy()[1] == contents(lab.file)
    assert len({key.split("/")[3] for key in lab.keys("/journal/")}) == 2


def test_a_file_that_is_gone_is_never_made_anew(lab: Lab) -> None:
    lab.ship()
    before = lab.copy()[1]
    lab.database.close()
    for file in lab.folder.glob("journal.db*"):
        file.unlink()
    for _ in range(10):
        lab.now_s += 20
        lab.turn()
    assert not lab.file.exists()
    assert lab.shipper.status(lab.now_s)["state"] == "failing"
    assert lab.copy()[1] == before
    lab.database = sqlite3.connect(":memory:")


def test_a_commit_that_its_writer_did_not_live_to_see_is_taken_back_by_a_new_timeline(lab: Lab) -> None:
    """A writer killed between its last frame and the index leaves a commit that SQLite overwrites."""
    lab.put(1)
    lab.ship()
    log = lab.file.with_name("journal.db-wal")
    lab.put(2, 100)
    lab.turn()
    lab.turn()
    place = lab.shipper._source._place  # type: ignore[union-attr]
    with log.open("r+b") as file:  # as if another commit stood where that one was
        assert place is not None
        file.seek(place.offset - 4096 - 24 + 16)
        file.write(b"12345678")
    lab.put(3)
    lab.now_s += 60
    lab.turn()
    assert lab.shipper.status(lab.now_s)["state"] == "failing"


# -- owners ------------------------------------------------------------------------------------------------------------------


def test_the_older_epoch_stops_and_touches_nothing(lab: Lab) -> None:
    lab.put(1)
    lab.ship()
    other = Lab(lab.folder / "x", epoch=5, identity="other") if (lab.folder / "x").mkdir() is None else lab
    other.store, other.folder = lab.store, lab.folder
    other.shipper = other.a_shipper(5, "other")
    other.put(77)
    for _ in range(30):
        other.turn()
    theirs = contents(other.file)
    before = set(lab.keys())
    lab.put(2)
    lab.now_s += 60
    for _ in range(10):
        lab.turn()
    status = lab.shipper.status(lab.now_s)
    assert status["state"] == "superseded" and lab.shipper.is_over
    assert "epoch 5" in str(status["error"])
    assert set(lab.keys()) == before, "it wrote nothing more"
    assert lab.copy()[1] == theirs
    other.close()


def test_a_higher_epoch_never_gives_way_to_a_lower_one(lab: Lab) -> None:
    lab.ship()
    late = lab.a_shipper(0, "late")
    for number in range(10):
        late.turn(lab.now_s + number)
    assert late.status(lab.now_s)["state"] == "superseded"
    lab.put(3)
    lab.now_s += 60
    lab.ship()
    assert lab.shipper.status(lab.now_s)["state"] == "shipping"


def test_of_two_copies_of_one_disk_one_goes_on(lab: Lab) -> None:
    lab.ship()
    twin = lab.a_shipper(1, "twin")
    twin.turn(lab.now_s)
    twin.turn(lab.now_s + 1)
    assert twin.is_over and not lab.shipper.is_over


def test_the_same_life_takes_up_again_what_its_process_left(lab: Lab) -> None:
    lab.put(1)
    lab.ship()
    lab.shipper.close()
    lab.shipper = lab.a_shipper(1, "me")
    lab.put(2)
    lab.ship()
    assert lab.copy()[1] == contents(lab.file)
    assert len({key.split("/")[3] for key in lab.keys("/journal/")}) == 2


# -- what is wrong with the store --------------------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)


def two_bases(lab: Lab, patch: pytest.MonkeyPatch) -> list[int]:
    patch.setattr(shipper_module, "MIN_BASE_BYTES", 50_000)
    number = 0
    while len(found := [base.number for base in lab.places.bases(lab.keys()) if base.is_marked]) < 2:
        number += 1
        lab.put(number % 9, 6000)
        lab.ship()
    patch.undo()
    lab.put(500)
    lab.ship()
    return found


HARMS: dict[str, Callable[[Path], object]] = {
    "spoilt": spoil,
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("what", ["/part/000000000001", "/part/000000000000", "/whole.json"])
def test_where_a_base_is_not_sound_the_one_before_it_will_do(lab: Lab, monkeypatch: pytest.MonkeyPatch, what: str, harm: str) -> None:
    newest = two_bases(lab, monkeypatch)[-1]
    [key] = [key for key in lab.keys(what) if f"/{newest:012d}/" in key]
    HARMS[harm](lab.path(key))
    made, copied = lab.copy()
    assert made is not None and made.base < newest
    assert copied == contents(lab.file), "the changes lead from the older base to the very same state"
    assert bool(made.problems) == (lab.path(key).exists() or what != "/whole.json")


def test_where_a_change_is_not_sound_the_state_before_it_is_had_and_that_is_said(lab: Lab) -> None:
    moments = []
    for number in range(6):
        lab.put(number)
        lab.ship()
        moments.append(contents(lab.file))
    spoil(lab.path(lab.keys("/change/")[-2]))
    made, copied = lab.copy()
    assert copied == moments[-3]
    assert made is not None and "2 changes are missing" in made.problems[-1]
    lab.path(lab.keys("/change/")[-2]).unlink()
    made, copied = lab.copy()
    assert copied == moments[-3]
    assert made is not None and "is gone, and 1 behind it" in made.problems[-1]


def test_a_piece_in_anothers_place_is_not_taken_for_it(lab: Lab) -> None:
    for number in range(3):
        lab.put(number)
        lab.ship()
    older, newer = (lab.path(key) for key in lab.keys("/change/")[-2:])
    newer.write_bytes(older.read_bytes())
    made, _ = lab.copy()
    assert made is not None and "a piece of something else" in made.problems[-1]


def test_where_nothing_is_sound_the_error_says_so(lab: Lab) -> None:
    lab.put(1)
    lab.ship()
    spoil(lab.path(lab.keys("/part/000000000001")[0]))
    with pytest.raises(FabricError) as caught:
        lab.copy()
    assert caught.value.code == "copy_corrupt" and "delete shipping/" in str(caught.value.hint)
    assert not (lab.folder / "copy.db").exists()


def test_where_nothing_was_shipped_there_is_nothing(lab: Lab) -> None:
    assert make_database(lab.store, Places("other", "journal"), lab.folder / "copy.db") is None


def test_names_of_fabrics_stay_apart_and_within_the_store() -> None:
    names = ["a", "A", "..", ".", "a/b", "a%2Fb", FABRIC, "lab 1.0", "ü"]
    tops = {Places(name, "journal").top for name in names}
    assert len(tops) == len(names)
    assert all(top.count("/") == 2 and ".." not in top for top in tops)
    assert Places("a", "journal").key(Label("t", 3, change=4)).endswith("/t/000000000003/change/000000000004")
