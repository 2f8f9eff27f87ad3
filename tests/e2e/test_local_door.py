"""A replica's door for the ingress of its own machine: open while its process lives, and of no use to anybody else."""

from __future__ import annotations

import socket
from pathlib import Path

from serve_apps.local_door import LocalDoor, answers, open_door


def test_a_door_answers_until_it_is_closed(tmp_path: Path) -> None:
    door = LocalDoor(tmp_path / "doors")
    assert answers(door.path) and (tmp_path / "doors").stat().st_mode & 0o077 == 0
    door.close()
    assert not answers(door.path) and not list((tmp_path / "doors").iterdir())


def test_the_door_of_a_process_that_was_killed_answers_nobody_and_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "left.door"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(left))
    assert left.exists() and not answers(left)
    door, other = LocalDoor(tmp_path), LocalDoor(tmp_path)
    assert not left.exists() and answers(door.path) and answers(other.path)
    door.close(), other.close()


def test_where_no_door_can_be_there_is_none(tmp_path: Path) -> None:
    assert open_door(tmp_path / ("x" * 120)) is None
    (tmp_path / "file").write_text("")
    assert open_door(tmp_path / "file") is None
