"""What-ifs over the API: refused at once or run aside, one at a time, for a bounded time, and never longer than whoever runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fabric.errors import FabricError, RejectedError, RuntimeFault, UnknownNameError
from fabric.job import Grant, Option
from fabric.job_events import JobDispatched, JobEnded, JobStarted, JobSubmitted
from fabric.plane import what_if as module
from fabric.plane.what_if import WhatIfs
from fabric.sim.what_if_process import NICE
from fabric.what_if_form import SIDE_KEYS, WHAT_IF_KEYS
from tests.api_world import UNTIL_S, World, a_world
from tests.jobs import spec
from tests.local_plane import NODES, POLICY

SLOW_S = 60.0
"""A process that imports the simulator on a busy machine."""
OTHER = yaml.safe_dump({**POLICY, "spec": {"objective": "jct"}})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path, runs=False) as made:
        made.plane.nodes = {node.node_id: node for node in NODES}
        yield made


def ran(world: World, num: int = 4) -> None:
    """Jobs that ran one after the other, as the journal has them."""
    for n in range(num):
        one = spec(f"job-{n}", submitted_s=1e9 + n, family="f")
        grant = Grant(Option(0, "big", 1, 1.0, 1.0), ("big-1",))
        at_s = 1e9 + 10.0 * n
        world.journal.append_all("jobs", [JobSubmitted(one, "ann")], wall_s=1e9 + n)
        world.journal.append_all("jobs", [JobDispatched(one.job_id, 1, grant, "Fit"), JobStarted(one.job_id, 1)], wall_s=at_s)
        world.journal.append_all("jobs", [JobEnded(one.job_id, 1, "ok")], wall_s=at_s + 10.0)


def post(world: World, user: str | None = "bob", **document: Any) -> tuple[int, Any]:
    reply = world.ask(user, "POST", "/v1/policy/what-if", json.dumps({"document": OTHER, **document}).encode())
    return reply.status, json.loads(reply.body)


def got(world: World, what_if_id: str, user: str | None = "bob") -> tuple[int, Any]:
    reply = world.ask(user, "GET", f"/v1/policy/what-if/{what_if_id}")
    return reply.status, json.loads(reply.body)


def ended(world: World, what_if_id: str) -> dict[str, Any]:
    until_s = time.monotonic() + SLOW_S
    pause = threading.Event()
    while (form := got(world, what_if_id)[1])["state"] == "running":
        assert time.monotonic() < until_s, form
        pause.wait(0.02)
    return dict(form)


def instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """This program runs in place of the simulator; `asked` is what it was told."""
    code = "import json, os, sys, time\nasked = json.loads(sys.stdin.readline())\n"
    code += f"def tell(line): print(json.dumps(line), flush=True)\n{program}"
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", code))


HANGS = "tell({'progress': 0.25})\ntime.sleep(1000)"


# -- what it answers -------------------------------------------------------------------------------------------------------


def test_recorded_jobs_are_replayed_under_both_policies_in_a_process_that_gives_way(world: World) -> None:
    ran(world)
    status, begun = post(world, since="1h")
    assert status == 202 and begun.keys() == {"id"}
    form = ended(world, begun["id"])
    assert set(form) == set(WHAT_IF_KEYS) and (form["state"], form["error"], form["progress"]) == ("done", None, 1.0), form
    assert (form["jobs"], form["left_out"], form["by"], form["since_s"]) == (4, 0, "bob", 3600.0)
    assert form["current"].keys() == form["proposed"].keys() == set(SIDE_KEYS)
    assert form["current"]["jobs"] == 4 and form["current"]["makespan_s"] > 0 and form["took_s"] > 0
    assert form["recorded"]["makespan_s"] == pytest.approx(40.0)
    assert world.plane.policy_show()["version"] == 1, "nothing is applied"


def test_what_the_process_cannot_do_is_told_with_its_code(world: World) -> None:
    form = ended(world, post(world)[1]["id"])
    assert (form["state"], form["error"]["code"], form["progress"]) == ("failed", "no_journal", None)
    assert form["current"] is None and form["error"]["hint"]


def test_progress_is_told_while_it_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, HANGS)
    what_if_id = post(world)[1]["id"]
    until_s = time.monotonic() + UNTIL_S
    while (form := got(world, what_if_id)[1])["progress"] != 0.25:
        assert time.monotonic() < until_s, form
    assert (form["state"], form["took_s"], form["current"]) == ("running", None, None)


def test_it_is_told_the_limits_and_the_policies_and_no_secret_stands_on_its_command_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, "tell({'answer': {'current': asked}})")
    asked = ended(world, post(world, since="2h")[1]["id"])["current"]
    assert (asked["since_s"], asked["most_jobs"], asked["memory_bytes"]) == (7200.0, 5000, 2 * 2**30)
    assert asked["journal_url"].startswith("sqlite:///") and not any("sqlite" in word for word in module.COMMAND)
    assert (asked["current"]["objective"], asked["proposed"]["objective"]) == ("balanced", "jct")
    assert {node["node_id"] for node in asked["nodes"]} == {node.node_id for node in NODES}


# -- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("kind: [", "policy_not_yaml"),
        ("", "bad_policy"),
        ({**POLICY, "spec": {"objctive": "jct"}}, "unknown_policy_key"),
        ({}, "bad_policy"),
    ],
)
def test_an_invalid_document_is_refused_at_once_as_applying_it_would_be(world: World, document: Any, code: str) -> None:
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    applied = world.ask("root", "PUT", "/v1/policy", text.encode())
    for form in (text, document):
        status, answer = post(world, document=form)
        assert (status, answer) == (applied.status, json.loads(applied.body)) and answer["code"] == code


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"since": "yesterday"}, 400, "bad_duration"),
        ({"since": "0s"}, 400, "bad_since"),
        ({"since": "400d"}, 400, "bad_since"),
        ({"document": None}, 400, "bad_document"),
        ({"sinse": "1h"}, 400, "unknown_key"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(world: World, more: dict[str, Any], status: int, code: str) -> None:
    got_status, answer = post(world, **more)
    assert (got_status, answer["code"]) == (status, code)


def test_only_who_may_read_asks_and_sees(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "tell({'answer': {}})")
    assert [post(world, user)[0] for user in (None, "ann")] == [401, 403]
    what_if_id = post(world)[1]["id"]
    assert [got(world, what_if_id, user)[0] for user in (None, "ann", "bob", "ops")] == [401, 403, 200, 200]
    world.secrets["bound"], _ = world.tokens.mint("cleo", ["read"], queues=["default"])
    assert (post(world, "bound")[0], got(world, what_if_id, "bound")[0]) == (403, 403), "its figures are of all queues"
    assert (got(world, "nonsense")[0], got(world, "nonsense")[1]["code"]) == (404, "unknown_what_if")


def test_a_second_one_is_refused_for_now_while_the_first_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, HANGS)
    post(world)
    reply = world.ask("root", "POST", "/v1/policy/what-if", json.dumps({"document": OTHER}).encode())
    assert (reply.status, json.loads(reply.body)["code"], reply.headers["retry-after"]) == (429, "busy", "5")
    assert post(world, document="kind: [")[0] == 400, "a mistake is told all the same"


# -- bad luck --------------------------------------------------------------------------------------------------------------


def run_to_end(what_ifs: WhatIfs) -> Any:
    what_if_id = what_ifs.begin(OTHER, 60.0, "ann")
    for thread in what_ifs._threads:
        thread.join(SLOW_S)
    return what_ifs.shown(what_if_id)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("os.abort()", "what_if_failed"),
        ("sys.exit(3)", "what_if_failed"),
        ("print('no JSON')", "what_if_failed"),
        ("tell({'progress': 0.5})", "what_if_failed"),
        ("tell({'error': {'code': 'out_of_memory', 'message': 'm', 'hint': 'h'}})", "out_of_memory"),
    ],
)
def test_a_process_that_ends_otherwise_than_well_is_told(world: World, monkeypatch: pytest.MonkeyPatch, program: str, code: str) -> None:
    instead(monkeypatch, program)
    form = run_to_end(world.what_ifs)
    assert (form["state"], form["error"]["code"]) == ("failed", code) and form["error"]["message"] and form["error"]["hint"]


def test_one_that_takes_too_long_is_ended_and_the_next_may_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "print(os.getpid(), file=open('pid', 'w'))\n" + HANGS)
    monkeypatch.chdir(world.store_folder.parent)
    what_ifs = WhatIfs(world.plane, "sqlite:///x", limit_s=1.0)
    form = run_to_end(what_ifs)
    assert (form["state"], form["error"]["code"]) == ("failed", "timeout")
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)
    instead(monkeypatch, "tell({'answer': {}})")
    assert run_to_end(what_ifs)["state"] == "done"


def cancelled(world: World, what_if_id: str, user: str = "bob") -> tuple[int, Any]:
    reply = world.ask(user, "POST", f"/v1/policy/what-if/{what_if_id}/cancel", b"{}")
    return reply.status, json.loads(reply.body)


def test_one_that_is_cancelled_has_ended_and_the_next_may_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, HANGS)
    what_if_id = post(world)[1]["id"]
    status, form = cancelled(world, what_if_id)
    assert (status, form["state"], form["error"]["code"], form["progress"]) == (200, "failed", "cancelled", None)
    assert cancelled(world, what_if_id)[1] == form == got(world, what_if_id)[1], "again changes nothing"
    instead(monkeypatch, "tell({'answer': {}})")
    done = ended(world, post(world)[1]["id"])
    assert done["state"] == "done" and cancelled(world, done["id"])[1] == done


def test_anothers_is_cancelled_by_who_may_operate_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, HANGS)
    what_if_id = post(world, user="root")[1]["id"]
    assert cancelled(world, what_if_id)[0] == 403 and got(world, what_if_id)[1]["state"] == "running"
    assert cancelled(world, "0" * 32)[0] == 404
    assert cancelled(world, what_if_id, "root")[1]["error"]["code"] == "cancelled"


def test_it_ends_with_whoever_runs_it_and_the_next_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, HANGS)
    what_ifs = WhatIfs(world.plane, "sqlite:///x")
    what_if_id = what_ifs.begin(OTHER, 60.0, "ann")
    what_ifs.close()
    assert what_ifs.shown(what_if_id)["error"]["code"] == "closed"
    with pytest.raises(RuntimeFault):
        what_ifs.begin(OTHER, 60.0, "ann")


def child(answered: str) -> subprocess.Popen[str]:
    """The real process, but for what it works out."""
    code = f"import time\nfrom fabric.sim import what_if_process as it\nit._answered = lambda asked: {answered}\nit.main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"memory_bytes": 200 * 2**20}) + "\n")
    process.stdin.flush()
    return process


def line_of(process: subprocess.Popen[str]) -> Any:
    """What it says, while whoever asked is there."""
    with process:
        assert process.stdout is not None
        return json.loads(process.stdout.readline())


def test_the_process_ends_when_its_asker_is_gone() -> None:
    """Its stdin closes, as that of a child does whose parent was killed."""
    process = child("time.sleep(1000)")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(SLOW_S) == 0


@pytest.mark.parametrize(
    ("answered", "code"), [("bytearray(2**30)", "out_of_memory"), ("time.nothing", "bug"), ("it.json.loads('{')", "bug")]
)
def test_what_goes_wrong_inside_is_its_last_line(answered: str, code: str) -> None:
    assert line_of(child(answered))["error"]["code"] == code


def test_it_gives_way_to_everything_else() -> None:
    assert line_of(child("it.os.nice(0)")) == {"answer": NICE + os.nice(0)}


def test_the_last_few_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    instead(monkeypatch, "tell({'answer': {}})")
    ids = [run_to_end(world.what_ifs)["id"] for _ in range(3)]
    assert [world.what_ifs.shown(each)["state"] for each in ids[1:]] == ["done", "done"]
    with pytest.raises(UnknownNameError):
        world.what_ifs.shown(ids[0])


# -- from Python -----------------------------------------------------------------------------------------------------------


def test_the_client_waits_for_it_and_prints_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.jobs.LOOK_S", 0.01)
    side = dict.fromkeys(SIDE_KEYS, 1.0)
    answer = {"jobs": 1, "left_out": 0, "left_out_why": {}, "recorded": None, "current": side, "proposed": side}
    instead(monkeypatch, f"tell({{'progress': 0.5}})\ntime.sleep(0.3)\ntell({{'answer': json.loads({json.dumps(answer)!r})}})")
    seen: list[float] = []
    found = world.jobs("bob").what_if(OTHER, "1h", on_progress=seen.append)
    assert found.as_json()["state"] == "done" and "mean completion time" in str(found) and 0.5 in seen
    instead(monkeypatch, "tell({'error': {'code': 'never_starts', 'message': 'm', 'hint': 'h'}})")
    with pytest.raises(FabricError) as failed:
        world.jobs("bob").what_if({**POLICY})
    assert (failed.value.code, failed.value.hint) == ("never_starts", "h")
    with pytest.raises(RejectedError):
        world.jobs("ann").what_if(OTHER)
