"""A line per request outlives the process that wrote it, and reaches the store once."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.artefacts import ArtefactStore
from serve_apps.usage.log import UsageLog, UsageRecord, whole_lines
from serve_apps.usage.ship import PREFIX, finished, ship


def record(number: int) -> UsageRecord:
    return UsageRecord(f"id-{number}", 1.0, "ann", "m", "1", "cpu", 1, 200, 0.5)


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(f"file://{tmp_path}/store")


def shipped(store: ArtefactStore) -> list[str]:
    lines = [line for entry in store.entries(PREFIX) for line in gzip.decompress(store.read_bytes(entry.key)).splitlines()]
    return sorted(json.loads(line)["id"] for line in lines)


def test_what_was_appended_is_there_after_a_kill(tmp_path: Path, store: ArtefactStore) -> None:
    script = (
        "import os, signal; from pathlib import Path; from serve_apps.usage.log import UsageLog, UsageRecord\n"
        f"log = UsageLog(Path({str(tmp_path / 'usage')!r}), 'r1')\n"
        "for i in range(10): log.append(UsageRecord(f'id-{i}', 1.0, 'ann', 'm', '1', 'cpu', 1, 200, 0.5))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}).returncode == -9
    assert ship(tmp_path / "usage", store) == 1
    assert shipped(store) == sorted(f"id-{i}" for i in range(10))
    assert list((tmp_path / "usage").iterdir()) == []


def test_a_full_file_is_followed_by_a_new_one_and_only_the_full_ones_are_shipped(tmp_path: Path, store: ArtefactStore) -> None:
    folder = tmp_path / "usage"
    log = UsageLog(folder, "r1", max_bytes=300)
    for number in range(6):
        log.append(record(number))
    assert log.current not in list(finished(folder, log.current)) and len(list(finished(folder, log.current))) >= 2
    ship(folder, store, current=log.current)
    ship(folder, store, current=log.current)
    in_file = [json.loads(line)["id"] for line in whole_lines(log.current.read_bytes()).splitlines()]
    assert sorted(shipped(store) + in_file) == [f"id-{number}" for number in range(6)]


def test_another_living_process_keeps_its_file(tmp_path: Path, store: ArtefactStore) -> None:
    folder = tmp_path / "usage"
    folder.mkdir()
    other = folder / f"r2.{os.getppid()}.1.jsonl"
    other.write_text('{"id": "x"}\n')
    log = UsageLog(folder, "r1")
    log.append(record(1))
    assert ship(folder, store, current=log.current) == 0 and other.exists()
    log.rotate()
    assert ship(folder, store, current=log.current) == 1
    log.close()
    assert not log.current.exists(), "an empty file is not left behind"


def test_a_line_that_is_longer_than_a_file_has_one_of_its_own(tmp_path: Path, store: ArtefactStore) -> None:
    log = UsageLog(tmp_path / "usage", "r1", max_bytes=10)
    log.append(record(1))
    log.append(record(2))
    log.close()
    assert ship(tmp_path / "usage", store, current=log.current) == 2 and shipped(store) == ["id-1", "id-2"]


def test_a_full_disk_is_an_error_and_what_comes_after_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = UsageLog(tmp_path / "usage", "r1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            log.append(record(1))
        assert not list((tmp_path / "usage").iterdir())
    log.append(record(2))
    assert b"id-2" in whole_lines(log.current.read_bytes())


def test_a_line_that_was_cut_by_a_kill_is_not_shipped(tmp_path: Path, store: ArtefactStore) -> None:
    folder = tmp_path / "usage"
    folder.mkdir()
    (folder / "r1.99999999.1.jsonl").write_bytes(b'{"id": "whole"}\n{"id": "cu' + bytes(100))
    assert ship(folder, store) == 1 and shipped(store) == ["whole"]
