"""A head without its files gets them back, under a higher epoch; a file that is there is never touched."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig, ShippingConfig
from fabric.errors import FabricError
from fabric.events import NodeCordoned
from fabric.journal import Journal
from fabric.journal.epochs import LIFT, next_epoch
from fabric.shipping.bring_back import bring_back
from fabric.shipping.opened import open_journal
from fabric.shipping.owner import Claim, Owner, read_owner, write_owner
from fabric.shipping.places import Places
from fabric.shipping.plan import shipped_databases
from fabric.shipping.shipper import Shipper
from tests.unit.shipping.conftest import at_once
from tests.unit.shipping.test_shipper import spoil

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> FabricConfig:
    return FabricConfig(name="lab", state_dir=tmp_path / "state", storage_url=f"file://{tmp_path}/elsewhere")


def ship(config: FabricConfig, epoch: int, *, is_done: bool = True) -> None:
    """All databases, once."""
    store = ArtefactStore(config.storage)
    claim = Claim(store, config.name, epoch, f"life {epoch}")
    for database in shipped_databases(config):
        if database.file.exists():
            shipper = Shipper(database.file, Places(config.name, database.name), store, claim, epoch, at_once, interval_s=0.0)
            for now_s in range(1, 100):
                shipper.turn(now_s)
            assert shipper.is_all_shipped
            shipper.close()
    claim.hold(is_done=is_done, now=True)


def a_life(config: FabricConfig, name: str) -> int:
    journal = open_journal(config)
    epoch = next_epoch(journal)
    journal.append("jobs", NodeCordoned(name, "ann"))
    journal.close()
    return epoch


def lose(config: FabricConfig) -> None:
    for file in config.state_path.iterdir():
        file.unlink()


def nodes(config: FabricConfig) -> list[str]:
    journal = Journal(config.database_url)
    found = [body["node_id"] for _, body in journal.replay("jobs")]
    journal.close()
    return found


def test_a_head_that_lost_its_disk_goes_on_under_a_higher_epoch(config: FabricConfig, caplog: pytest.LogCaptureFixture) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    with caplog.at_level(logging.WARNING):
        epoch = a_life(config, "n2")
    assert "journal of lab brought back from file://" in caplog.text
    assert epoch == LIFT + 1
    assert nodes(config) == ["n1", "n2"]
    assert (config.state_path / "journal.db").stat().st_mode & 0o777 == 0o600
    ship(config, epoch)
    lose(config)
    assert a_life(config, "n3") == 2 * LIFT + 1
    assert nodes(config) == ["n1", "n2", "n3"]


def test_the_epoch_is_above_lives_that_were_never_shipped(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    unseen = [a_life(config, f"later-{n}") for n in range(5)]
    lose(config)
    assert a_life(config, "back") > max(unseen)


def test_a_file_that_is_there_wins_whatever_the_store_has(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    (config.state_path / "journal.db").touch()
    assert a_life(config, "mine") == 1
    assert nodes(config) == ["mine"]


def test_where_the_store_knows_nothing_a_fabric_begins(config: FabricConfig) -> None:
    assert bring_back(config) == []
    assert not (config.state_path / "journal.db").exists()
    assert a_life(config, "n1") == 1


def test_another_fabrics_copy_is_left_alone(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    assert a_life(config.model_copy(update={"name": "other"}), "o1") == 1
    assert nodes(config) == ["o1"]


def test_what_is_left_of_a_log_is_not_laid_over_the_copy(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    journal = Journal(config.database_url)
    journal.append("jobs", NodeCordoned("never shipped", "ann"))
    (config.state_path / "journal.db").unlink()
    assert (config.state_path / "journal.db-wal").stat().st_size > 0
    bring_back(config)
    assert nodes(config) == ["n1"]
    assert len(list(config.state_path.glob("journal.db-wal.stray-*"))) == 1
    journal.close()


def test_profiles_come_back_too_and_begin_anew_where_they_cannot(config: FabricConfig, caplog: pytest.LogCaptureFixture) -> None:
    profiles = Journal(config.profiles_url)
    profiles.save("profiler", {"task": {"a": 1}})
    profiles.close()
    ship(config, a_life(config, "n1"))
    lose(config)
    bring_back(config)
    assert Journal(config.profiles_url).load("profiler") == {"task": {"a": 1}}
    lose(config)
    for file in (Path(config.storage.removeprefix("file://")) / "shipping" / "lab" / "profiles").rglob("part/*"):
        spoil(file)
    with caplog.at_level(logging.WARNING):
        notes = bring_back(config)
    assert "profiles begin anew" in notes[-1]
    assert nodes(config) == ["n1"] and not (config.state_path / "profiles.db").exists()


def test_a_journal_of_which_no_copy_is_sound_is_not_replaced_by_an_empty_one(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    for file in (Path(config.storage.removeprefix("file://")) / "shipping" / "lab" / "journal").rglob("part/*"):
        spoil(file)
    with pytest.raises(FabricError) as caught:
        open_journal(config)
    assert caught.value.code == "copy_corrupt" and caught.value.hint
    assert list(config.state_path.glob("*journal*")) == []


def test_an_owner_without_a_whole_copy_still_has_had_epochs(config: FabricConfig) -> None:
    Claim(ArtefactStore(config.storage), "lab", 9, "gone").hold(is_done=True)
    assert a_life(config, "n1") == LIFT + 1


# -- two heads ---------------------------------------------------------------------------------------------------------------


def test_a_head_that_still_lives_is_not_robbed(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"), is_done=False)
    store = ArtefactStore(config.storage)
    owner = read_owner(store, "lab")
    assert owner is not None
    lose(config)
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(0.05):
            count += 1
            write_owner(store, "lab", replace(owner, beat_s=time.time() + count))

    beating = threading.Thread(target=beat)
    beating.start()
    with pytest.raises(FabricError) as caught:
        bring_back(config, watch_s=0.5)
    ended.set()
    beating.join()
    assert caught.value.code == "owner_alive" and "name" in str(caught.value.hint)
    assert not (config.state_path / "journal.db").exists()
    bring_back(config, watch_s=0.2)
    assert nodes(config) == ["n1"], "silent now: it is gone"


def test_the_head_that_was_taken_for_dead_ships_nothing_more(config: FabricConfig) -> None:
    epoch = a_life(config, "n1")
    ship(config, epoch, is_done=False)
    store = ArtefactStore(config.storage)
    owner = read_owner(store, "lab")
    assert owner is not None
    write_owner(store, "lab", replace(owner, beat_s=1.0))
    elsewhere = config.model_copy(update={"state_dir": config.state_path.with_name("new head")})
    assert a_life(elsewhere, "n2") == LIFT + 1
    with pytest.raises(FabricError) as caught:
        Claim(store, "lab", epoch, owner.id).hold()
    assert caught.value.code == "superseded"
    ship(elsewhere, LIFT + 1)


def test_an_owner_object_that_cannot_be_read_stops_nobody(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    for content in (b"", b"[]", b'{"epoch": 3}', b"\xff"):
        (Path(config.storage.removeprefix("file://")) / "shipping" / "lab" / "owner.json").write_bytes(content)
        lose(config)
        assert a_life(config, "back") == LIFT + 1, "by what the journal itself says"


# -- disks -------------------------------------------------------------------------------------------------------------------

BRING = """
import sys
from fabric.config import FabricConfig
from fabric.errors import FabricError
from fabric.shipping.bring_back import bring_back
try:
    bring_back(FabricConfig(name="lab", state_dir=sys.argv[1], storage_url=sys.argv[2]), store_wait_s=0.1)
except FabricError as error:
    print(error.code, error.hint)
"""


def bring_in_a_process(config: FabricConfig, **more: object) -> str:
    command = [sys.executable, "-c", BRING, str(config.state_path), config.storage]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True, **more).stdout  # type: ignore[call-overload,no-any-return]


def test_a_disk_that_is_full_leaves_nothing_and_the_next_try_succeeds(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    said = bring_in_a_process(config, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    assert said.startswith("restore_failed is the disk full")
    assert [file.name for file in config.state_path.iterdir()] == ["restore.lock"]
    bring_back(config)
    assert nodes(config) == ["n1"]


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.mark.parametrize("what", ["state", "store"])
def test_without_rights_it_says_so_and_touches_nothing(config: FabricConfig, what: str) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    folder = config.state_path if what == "state" else Path(config.storage.removeprefix("file://"))
    with mode(folder, 0o500 if what == "state" else 0o000):
        ordinary = {"preexec_fn": _without_rights_of_root} if os.geteuid() == 0 else {}
        said = bring_in_a_process(config, **ordinary)
    assert said.split()[0] == ("restore_failed" if what == "state" else "storage_failed"), said
    assert not (config.state_path / "journal.db").exists()
    bring_back(config)
    assert nodes(config) == ["n1"]


def _without_rights_of_root() -> None:
    """Root may write everywhere: not so without its capabilities."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # DAC_OVERRIDE, DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)


def test_a_store_that_is_away_is_waited_for_and_never_taken_for_empty(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    folder = Path(config.storage.removeprefix("file://"))
    folder.rename(folder.with_name("unplugged"))
    folder.write_text("a file is in its place")
    with pytest.raises(FabricError) as caught:
        bring_back(config, store_wait_s=0.2)
    assert caught.value.code == "storage_failed"
    assert not (config.state_path / "journal.db").exists()

    def plug_in() -> None:
        folder.unlink()
        folder.with_name("unplugged").rename(folder)

    timer = threading.Timer(0.3, plug_in)
    timer.start()
    bring_back(config, store_wait_s=20.0)
    timer.join()
    assert nodes(config) == ["n1"]


def test_many_processes_bring_it_back_once(config: FabricConfig) -> None:
    ship(config, a_life(config, "n1"))
    lose(config)
    command = [sys.executable, "-c", BRING, str(config.state_path), config.storage]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    logs = [process.communicate(timeout=60)[1] for process in started]
    assert sum("brought back" in log for log in logs) == 1
    assert nodes(config) == ["n1"]


# -- whether it is on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"storage_url": "file:///elsewhere"}, ["journal", "profiles"]),
        ({"storage_url": "s3://bucket/fabric"}, ["journal", "profiles"]),
        ({}, []),
        ({"storage_url": "file:///var/lib/fabric/storage"}, []),
        ({"storage_url": "file:///var/lib/fabric/../fabric/"}, []),
        ({"storage_url": "memory://x"}, []),
        ({"storage_url": "file:///elsewhere", "shipping": ShippingConfig(enabled="never")}, []),
        ({"storage_url": "file:///elsewhere", "journal_url": "postgresql+psycopg://db/fabric"}, []),
        ({"storage_url": "file:///elsewhere", "journal_url": "sqlite:////data/all.db"}, ["journal"]),
        ({"storage_url": "file:///elsewhere", "journal_url": "sqlite://"}, []),
    ],
)
def test_what_is_shipped(more: dict[str, object], expected: list[str]) -> None:
    config = FabricConfig.model_validate({"state_dir": "/var/lib/fabric", **more})
    assert [database.name for database in shipped_databases(config)] == expected
    if not expected:
        assert bring_back(config) == []


def test_owners_are_written_as_they_are_read(tmp_path: Path) -> None:
    store = ArtefactStore(f"file://{tmp_path}")
    assert read_owner(store, "lab") is None
    write_owner(store, "lab", Owner(3, "x", "host", 5.0, is_done=True))
    assert read_owner(store, "lab") == Owner(3, "x", "host", 5.0, True)
