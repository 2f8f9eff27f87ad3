"""What runs on a machine itself: who may take it, what it answers, what is left when it ends."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.errors import RejectedError, RuntimeFault
from fabric.machines import agent, supervisor
from fabric.machines.book import Book
from fabric.machines.node_files import NodeFiles
from fabric.machines.spec import NodeSpec
from tests.labs import COLD, HOT, node_spec


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")  # no nft: this machine's own rules stay as they are
    monkeypatch.setattr(supervisor, "has_systemd", lambda: False)


@pytest.fixture
def files() -> NodeFiles:
    made = NodeFiles()
    made.prepare()
    return made


@pytest.fixture
def alive(files: NodeFiles) -> Iterator[NodeSpec]:
    """A node of the laboratory that runs, as far as its files say: this process holds the watchdog's lock."""
    spec = node_spec()
    files.write_spec(spec)
    files.write_status("up", spec, 0)
    held = files.hold()
    yield spec
    os.close(held)


Say = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """`say("claim", stdin={…})` -> the exit status, and the document that was printed."""

    def run(*words: str, stdin: object = None) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin if isinstance(stdin, str) else json.dumps(stdin)))
        status = agent.main(list(words))
        return status, json.loads(capsys.readouterr().out)

    return run


def test_a_second_start_changes_nothing(files: NodeFiles, alive: NodeSpec) -> None:
    before = files.status.read_bytes()
    for spec in (alive, node_spec(instance_id=f"{HOT}-9")):
        assert agent.start(spec, files) == {"state": "up", "instance_id": alive.instance_id, "is_new": False}
    assert files.status.read_bytes() == before


def test_a_second_start_changes_nothing_where_the_machine_said_itself_what_it_is(files: NodeFiles, tmp_path: Path) -> None:
    told = tmp_path / "env" / "bin" / "fabric"
    told.parent.mkdir(parents=True)
    told.write_text("""#!/bin/sh\necho '{"labels": {"tier": "cold", "flavor": "cpu"}, "resources": {}}'\n""")
    told.chmod(0o755)
    asked = node_spec(environment=str(tmp_path / "env"), labels={})
    files.write_spec(agent.described(asked))
    files.write_status("up", agent.described(asked), 0)
    held = files.hold()
    try:
        assert agent.start(asked, files)["is_new"] is False
    finally:
        os.close(held)


@pytest.mark.parametrize(
    ("changes", "mode", "code", "in_hint"),
    [
        ({"resources": {"CPU": 1}}, "keep", "settings_changed", "--restart"),
        ({"cluster": "theirs"}, "keep", "other_cluster", "fabric down for 'lab' first"),
        ({"cluster": "theirs"}, "restart", "other_cluster", "fabric down"),
        ({"cluster": "theirs"}, "fresh", "other_cluster", "fabric down"),
    ],
)
def test_what_runs_is_not_taken_away(
    files: NodeFiles, alive: NodeSpec, changes: dict[str, Any], mode: str, code: str, in_hint: str
) -> None:
    with pytest.raises(RejectedError) as error:
        agent.start(node_spec(**changes), files, mode)
    assert error.value.code == code and error.value.hint is not None and in_hint in error.value.hint
    assert files.read_spec() == alive


def test_a_machine_that_is_being_launched_refuses_another_launch(files: NodeFiles) -> None:
    with files.launching(), pytest.raises(RejectedError) as error:
        agent.start(node_spec(), files)
    assert error.value.code == "launch_running"


@pytest.mark.parametrize(
    ("log", "in_hint"),
    [
        ("grpc: UNAUTHENTICATED: Invalid or missing authentication token", "another token"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("bind: Address already in use", "port that Ray needs is taken"),
        ("ConnectionError: Ray is trying to start but is already running", "port that Ray needs is taken"),
        ("RuntimeError: Version mismatch: The cluster was started with", "its Ray or Python is another"),
        ("Failed to connect to GCS within 60 seconds", "does not reach the head"),
        ("something else", "last lines of its own log"),
    ],
)
def test_a_node_that_ended_as_it_started_is_told_in_its_own_words(files: NodeFiles, log: str, in_hint: str) -> None:
    spec = node_spec()
    files.write_status("down", spec, 0, detail=log)
    with pytest.raises(RuntimeFault) as error:
        agent._await(files, spec, "up")
    assert error.value.code == "ray_failed" and error.value.context["log"] == log
    assert error.value.hint is not None and in_hint in error.value.hint


def test_an_ending_leaves_the_node_of_another_cluster_alone(files: NodeFiles, alive: NodeSpec) -> None:
    assert agent.stop(files, "theirs", is_final=True) == {"state": "other", "was_running": False, "cluster": "lab"}
    assert files.watchdog_pid() == os.getpid()


def test_an_ending_for_good_takes_what_the_head_remembers_of_this_cluster_alone(files: NodeFiles, tmp_path: Path) -> None:
    for name in ("lab", "theirs"):
        (tmp_path / ".tierfabric/gcs" / name / "db").mkdir(parents=True)
    Book().take("hot", [HOT], 1, {})
    assert agent.stop(files, "lab", is_final=False) == {"state": "stopped", "was_running": False}
    assert (tmp_path / ".tierfabric/gcs/lab/db").exists() and Book().entries()
    agent.stop(files, "lab", is_final=True)
    assert [path.name for path in (tmp_path / ".tierfabric/gcs").iterdir()] == ["theirs"] and not Book().entries()


def test_machines_are_claimed_and_settled_in_one_call_each(say: Say) -> None:
    wanted = {HOT: ["hot", {"t": "1"}], COLD: ["cold", {"t": "2"}]}
    claimed = say("claim", stdin=wanted)
    assert claimed == (0, {"instances": {HOT: f"{HOT}-1", COLD: f"{COLD}-2"}})
    assert say("claim", stdin=wanted) == claimed
    outcomes = {HOT: ["running", ""], COLD: ["failed", "no disk"]}
    assert say("settle", stdin=outcomes) == (0, {"settled": 2})
    entries = Book().entries()
    assert (entries[HOT].state, entries[HOT].tags, entries[COLD].state, entries[COLD].reason) == (
        "running",
        {"t": "1"},
        "failed",
        "no disk",
    )


def test_the_status_is_of_a_living_node_only(files: NodeFiles, say: Say) -> None:
    assert say("status") == (0, {"is_running": False, "state": "stopped"})
    files.write_status("up", node_spec(), 2)
    _, left = say("status")
    assert (left["is_running"], left["state"], left["restarts"]) == (False, "stopped", 2)
    held = files.hold()
    _, alive = say("status")
    os.close(held)
    assert (alive["is_running"], alive["state"], alive["cluster"]) == (True, "up", "lab")


@pytest.mark.parametrize(
    ("words", "stdin", "code"), [(["start", "keep", "up"], "{}", "bad_node_spec"), (["strat"], "", "usage"), ([], "", "usage")]
)
def test_an_error_is_one_document_too(words: list[str], stdin: str, code: str, say: Say) -> None:
    status, answer = say(*words, stdin=stdin)
    assert status == 1 and answer["error"] == code and answer["message"]
