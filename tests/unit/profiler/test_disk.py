"""Profiles on disk: they come back, and nothing that is broken there stops the profiler or is lost unseen."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from fabric.config import FabricConfig
from fabric.errors import RuntimeFault
from fabric.journal import Journal
from fabric.journal.corruption import MARK, set_aside_if_corrupt
from fabric.types import Fingerprint, Resources, Variant
from profiler.disk import STREAM, UNREADABLE, ProfileDisk
from profiler.estimate import Measured, TaskProfile
from profiler.needs import Needs
from profiler.store import VERSION, to_document

VARIANT = Variant("f", "cpu", Resources(), "1f2e")
PROFILE = TaskProfile(
    "embed@1f2e",
    Fingerprint("nlp"),
    {"f": VARIANT},
    {(3, "f", "cpu"): Measured(2.0, -1.5, 0.1, 2, 10**8)},
    {"f": Needs([(-1, 2**29)], {4096: (2**30, 0)})},
)


@pytest.fixture
def config(tmp_path: Path) -> FabricConfig:
    return FabricConfig(state_dir=tmp_path)


def test_profiles_come_back(config: FabricConfig) -> None:
    ProfileDisk(config).save({PROFILE.task: to_document(PROFILE)})
    again = ProfileDisk(config)
    assert again.load() == {PROFILE.task: PROFILE}
    assert again.notes == []


@pytest.mark.parametrize("damage", [b"this is no database", None], ids=["overwritten", "torn"])
def test_a_broken_file_is_moved_aside_and_said_once(config: FabricConfig, tmp_path: Path, damage: bytes | None) -> None:
    disk = ProfileDisk(config)
    disk.save({f"{PROFILE.task}{n}": to_document(PROFILE) for n in range(200)})
    file = tmp_path / "profiles.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = file.read_bytes()
    file.write_bytes(damage if damage is not None else whole[:4096] + b"\xff" * 8192 + whole[12288:])
    broken = ProfileDisk(config)
    assert broken.load() == {}
    [aside] = tmp_path.glob(f"profiles.db{MARK}*[0-9]")
    assert str(aside) in broken.notes[0]
    broken.save({PROFILE.task: to_document(PROFILE)})
    again = ProfileDisk(config)
    assert (again.load(), again.notes) == ({PROFILE.task: PROFILE}, [])


@pytest.mark.parametrize("text", ["no json", "[]", '{"version": 1}', f'{{"version": {VERSION + 1}}}', "{}"])
def test_one_broken_profile_does_not_take_the_others_with_it(config: FabricConfig, text: str) -> None:
    ProfileDisk(config).save({PROFILE.task: to_document(PROFILE), "broken": {}})
    with sqlite3.connect(config.state_path / "profiles.db") as connection:
        connection.execute("UPDATE documents SET body = ? WHERE name = 'broken'", (text,))
    connection.close()
    disk = ProfileDisk(config)
    assert disk.load() == {PROFILE.task: PROFILE}
    assert "1 profiles could not be read" in disk.notes[0]
    assert list(Journal(config.profiles_url).load(UNREADABLE)) == ["broken"]
    assert ProfileDisk(config).notes == []


def test_profiles_of_a_release_that_kept_them_in_the_journal_of_jobs_are_found(config: FabricConfig) -> None:
    other = replace(PROFILE, task="other@1f2e")
    Journal(config.database_url).save(STREAM, {one.task: to_document(one) for one in (PROFILE, other)})
    disk = ProfileDisk(config)
    assert disk.load() == {PROFILE.task: PROFILE, other.task: other}
    disk.forget([other.task])
    assert ProfileDisk(config).load() == {PROFILE.task: PROFILE}, "they have moved: what is forgotten stays so, the rest is kept"
    assert Journal(config.database_url).load(STREAM) == {}


def test_a_directory_that_cannot_be_written_is_not_taken_for_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be", encoding="utf-8")
    with pytest.raises(RuntimeFault, match="journal"):
        ProfileDisk(FabricConfig(state_dir=tmp_path / "state"))


def test_other_databases_look_after_themselves() -> None:
    assert set_aside_if_corrupt("postgresql+psycopg://fabric@db.example.org/fabric") is None
    assert set_aside_if_corrupt("sqlite://") is None
