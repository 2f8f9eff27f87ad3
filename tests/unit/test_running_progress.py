"""What a job says of its progress, its log on the way to the store, its checkpoints there and back. No Ray."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from fabric import progress_report
from fabric.job import JobId, LaunchSpec
from fabric.progress_report import progress
from fabric.running import checkpoints, scratch
from fabric.running.log_ship import LogShipper
from fabric.running.order import Order, attempt_name, lease_name, parse_attempt, parse_lease
from fabric.running.progress_file import Progress, ProgressFile
from fabric.running.rank import environment
from fabric.running.stores import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(f"file://{tmp_path}/store", tmp_path / "cache")


def test_progress_is_nothing_outside_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FABRIC_PROGRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    progress(1, 2)
    assert not list(tmp_path.iterdir())


def test_progress_writes_at_most_ten_times_a_second_and_the_last_word_always(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "progress"
    monkeypatch.setenv("FABRIC_PROGRESS", str(file))
    began_s, words = time.monotonic(), set()
    while time.monotonic() - began_s < 0.35:
        progress(len(words) + 1, 10_000, "image")
        words.add(file.read_text())
    assert 1 <= len(words) <= 5
    progress(10_000, 10_000, "image")
    assert json.loads(file.read_text()) == {"done": 10_000.0, "total": 10_000.0, "unit": "image"}
    progress(10_001, 10_002)
    progress_report._WRITER.flush()
    assert json.loads(file.read_text())["done"] == 10_001.0


def test_progress_never_fails_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FABRIC_PROGRESS", str(tmp_path / "gone" / "progress"))
    progress(3, 3)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"done": 3, "total": 10, "unit": "step"}', Progress(3.0, 10.0)),
        ('{"done": 1}\n{"done": 2}\n', Progress(2.0)),
        ('{"done": 1}\n{"done": 2', Progress(1.0)),
        ('{"done": 1}\nnonsense\n[3]\n', Progress(1.0)),
        ("", None),
        ('{"total": 5}\n', None),
    ],
)
def test_the_last_whole_line_counts(tmp_path: Path, text: str, read: Progress | None) -> None:
    (tmp_path / "progress").write_text(text)
    assert ProgressFile(tmp_path / "progress", tmp_path / "checkpoints").read() == read


def test_a_checkpoint_keeps_what_was_done_when_it_was_written(tmp_path: Path) -> None:
    folder, file = tmp_path / "checkpoints", tmp_path / "progress"
    folder.mkdir()
    reader = ProgressFile(file, folder)
    file.write_text('{"done": 10}\n')
    assert reader.read() == Progress(10.0)
    (folder / "model").write_text("weights")
    assert reader.read() == Progress(10.0, None, 10.0)
    file.write_text('{"done": 15}\n')
    assert reader.read() == Progress(15.0, None, 10.0)


def test_a_log_reaches_the_store_whole_though_the_store_fails_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.running.log_ship.SHIP_EVERY_S", 0.02)
    file, stored, calls = tmp_path / "log", bytearray(), 0

    def append(data: bytes, at: int) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise OSError("not now")
        assert at == len(stored)
        stored.extend(data)

    shipper = LogShipper(file, append)
    with file.open("ab", buffering=0) as log:
        for i in range(20):
            log.write(f"line {i}\n".encode())
            time.sleep(0.01)
    shipper.close()
    assert stored == file.read_bytes()


def test_a_checkpoint_comes_back_to_any_number_of_ranks(store: RunStore, tmp_path: Path) -> None:
    for rank in (0, 1):
        (tmp_path / f"up{rank}").mkdir()
        (tmp_path / f"up{rank}" / f"shard-{rank}").write_text(str(rank))
        (tmp_path / f"up{rank}" / "both").write_text(str(rank))
        assert checkpoints.keep(store, "j", 1, rank, tmp_path / f"up{rank}")
    assert checkpoints.restore(store, "j", tmp_path / "down") is None, "half a checkpoint is none"
    checkpoints.mark_kept(store, "j", 1, [0, 1], 40.0)
    assert checkpoints.restore(store, "j", tmp_path / "down") == 40.0
    assert {file.name: file.read_text() for file in (tmp_path / "down").iterdir()} == {"shard-0": "0", "shard-1": "1", "both": "0"}


def test_a_later_checkpoint_replaces_the_one_before(store: RunStore, tmp_path: Path) -> None:
    for attempt, name in ((1, "old"), (2, "new")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(name)
        assert checkpoints.keep(store, "j", attempt, 0, folder)
        checkpoints.mark_kept(store, "j", attempt, [0], float(attempt))
    assert checkpoints.restore(store, "j", tmp_path / "down") == 2.0
    assert [file.name for file in (tmp_path / "down").iterdir()] == ["new"]
    assert store.read_bytes("checkpoints/j/1/0/manifest.json") is None


def test_an_empty_checkpoint_directory_is_no_checkpoint(store: RunStore, tmp_path: Path) -> None:
    assert not checkpoints.keep(store, "j", 1, 0, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert not checkpoints.keep(store, "j", 1, 0, tmp_path / "empty")


def test_the_fabric_s_variables_stand_above_the_user_s_and_ray_s_own_are_left_out() -> None:
    how = LaunchSpec("program", env={"RANK": "user", "MINE": "1"}, secrets={"TOKEN": "t"})
    order = Order(1, JobId("j"), 2, "try", "program", how, rank=1, world_size=4, env={"MASTER_ADDR": "10.0.0.1"})
    env = environment(order, {"RAY_JOB_ID": "01", "RAY_AUTH_MODE": "token", "PATH": "/bin"}, Path("/p"), Path("/c"))
    assert env["RANK"] == "1"
    assert (env["MINE"], env["TOKEN"], env["MASTER_ADDR"], env["FABRIC_ATTEMPT"]) == ("1", "t", "10.0.0.1", "2")
    assert "RAY_JOB_ID" not in env
    assert env["RAY_AUTH_MODE"] == "token"
    assert env["PATH"].endswith(os.pathsep + "/bin")


def test_what_killed_runners_left_is_cleared_unless_its_lease_stands(tmp_path: Path) -> None:
    for name in ("a.1", "b.1", "c.1/driver", "cache"):
        (tmp_path / name).mkdir(parents=True)
    now_s = time.time()
    assert scratch.sweep(tmp_path, lambda name: False, now_s) == []
    assert scratch.sweep(tmp_path, lambda name: name == "lease-b.1", now_s + 7200) == ["a.1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.1", "c.1", "cache"]


def test_names_of_attempts_and_leases_are_read_back() -> None:
    assert parse_attempt(attempt_name("0190-a.b", 3)) == ("0190-a.b", 3)
    assert parse_lease(lease_name("0190-a", 12)) == ("0190-a", 12)
    assert parse_lease("someone-elses") is None
    assert parse_attempt("raysubmit_x") is None
