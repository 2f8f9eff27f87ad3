"""The pages of jobs: what is submitted runs, what is asked is answered in the documented form, and each sees what it may."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from fabric.api.schema import JobAnswer, Listing
from fabric.errors import RejectedError
from fabric.job_answers import EXPLAINED_WAY_KEYS, EXPLANATION_KEYS, PLAN_KEYS
from fabric.job_ids import is_job_id, new_job_id
from fabric.usage_form import ROW_KEYS
from tests.api_world import World, a_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("jobs")) as made:
        yield made


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which nothing ever starts."""
    with a_world(tmp_path_factory.mktemp("still"), runs=False) as made:
        yield made


def post(world: World, document: Any, user: str = "ann") -> tuple[int, Any]:
    reply = world.ask(user, "POST", "/v1/jobs", json.dumps(document).encode())
    return reply.status, json.loads(reply.body)


def submit(world: World, user: str = "ann", **job: Any) -> str:
    status, answer = post(world, {"command": "true", **job}, user)
    assert status == 201, answer
    return str(answer["ids"][0][0])


def get(world: World, path: str, user: str = "ann") -> Any:
    reply = world.ask(user, "GET", path)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def ended(world: World, job_id: str) -> dict[str, Any]:
    found = get(world, f"/v1/jobs/{job_id}/wait?timeout_s=20")
    assert found["ended_s"] is not None, found
    return dict(found)


# -- submitting and running ------------------------------------------------------------------------------------------------


def test_a_command_runs_and_its_output_and_end_can_be_read(world: World) -> None:
    job_id = submit(world, command="echo to out; echo to err >&2", name="hello")
    assert is_job_id(job_id)
    job = ended(world, job_id)
    assert (job["state"], job["exit_code"], job["user"], job["name"]) == ("SUCCEEDED", 0, "ann", "hello")
    assert world.ask("ann", "GET", f"/v1/jobs/{job_id}/logs").body == b"to out\nto err\n"


def test_a_command_that_fails_says_so(world: World) -> None:
    job = ended(world, submit(world, command="exit 7"))
    assert (job["state"], job["why"], job["exit_code"]) == ("FAILED", "Error", 7)


def test_a_callable_runs_from_its_stored_payload_and_its_result_comes_back(world: World) -> None:
    payload = cloudpickle.dumps((lambda a, b: a + b, (1,), {"b": 4}))
    digest = json.loads(world.ask("ann", "PUT", "/v1/artefacts", payload).body)["digest"]
    assert world.ask("ann", "HEAD", f"/v1/artefacts/{digest}").status == 200
    assert world.ask("ann", "HEAD", f"/v1/artefacts/{'0' * 64}").status == 404
    status, answer = post(world, {"payload": digest})
    assert status == 201
    job_id = answer["ids"][0][0]
    assert ended(world, job_id)["form"] == "callable"
    reply = world.ask("ann", "GET", f"/v1/jobs/{job_id}/result")
    assert reply.headers["x-fabric-state"] == "SUCCEEDED" and cloudpickle.loads(reply.body) == (True, 5)


def test_a_command_leaves_no_result_and_a_running_one_none_yet(world: World) -> None:
    job_id = submit(world, command="sleep 20", name="long")
    assert json.loads(world.ask("ann", "GET", f"/v1/jobs/{job_id}/result").body)["code"] == "not_finished"
    assert world.ask("ann", "POST", f"/v1/jobs/{job_id}/cancel").status == 200
    assert ended(world, job_id)["state"] == "CANCELLED"
    assert world.ask("ann", "GET", f"/v1/jobs/{job_id}/result").status == 204


def test_a_list_is_taken_whole_and_its_jobs_may_follow_each_other(world: World) -> None:
    jobs = [{"command": "echo 1", "name": "first"}, {"command": "echo 2", "after": ["#0"]}, {"command": "echo 3", "after": ["#1", "#0"]}]
    status, answer = post(world, jobs)
    assert status == 201
    (first,), (second,), (third,) = answer["ids"]
    assert ended(world, third)["after"] == [second, first]
    assert ended(world, second)["started_s"] >= ended(world, first)["ended_s"] - 0.05


def test_an_array_is_so_many_jobs_that_know_their_number(world: World) -> None:
    status, answer = post(
        world,
        [{"command": "echo $FABRIC_ARRAY_INDEX of $FABRIC_ARRAY_SIZE", "array": 3, "name": "sweep"}, {"command": "true", "after": ["#0"]}],
    )
    assert status == 201
    members, (last,) = answer["ids"]
    assert ended(world, last)["after"] == members
    texts = [world.ask("ann", "GET", f"/v1/jobs/{job_id}/logs").body for job_id in members]
    assert texts == [b"0 of 3\n", b"1 of 3\n", b"2 of 3\n"]
    found = [ended(world, job_id) for job_id in members]
    assert [job["name"] for job in found] == ["sweep[0]", "sweep[1]", "sweep[2]"]
    (array_id,) = {job["array_id"] for job in found}
    assert {job["id"] for job in get(world, f"/v1/jobs?array={array_id}")["jobs"]} == set(members)
    assert set(get(world, f"/v1/jobs/{submit(world, after=[array_id])}")["after"]) == set(members)
    assert post(world, {"command": "true", "after": [array_id]}, "ops")[0] == 201
    world.secrets["eve"], _ = world.tokens.mint("eve", ["submit"])
    assert post(world, {"command": "true", "after": [array_id]}, "eve")[1]["code"] == "unknown_job"


def test_the_same_request_sent_again_submits_nothing_again(still: World) -> None:
    one = {"command": "true", "id": new_job_id(), "name": "again"}
    many = {"command": "true", "id": new_job_id(), "name": "many", "array": 3}
    before = len(still.plane.core.jobs)
    answers = {json.dumps(post(still, [one, many])) for _ in range(3)}
    assert len(answers) == 1 and len(still.plane.core.jobs) == before + 4


def test_an_idempotency_key_gives_the_same_job_and_is_its_users_own(still: World) -> None:
    first = submit(still, idempotency_key="nightly")
    assert submit(still, idempotency_key="nightly") == first
    assert submit(still, "bob", idempotency_key="nightly") != first
    _, answer = post(still, [{"command": "true", "idempotency_key": "nightly"}, {"command": "true", "name": "next", "after": ["#0"]}])
    assert answer["ids"][0] == [first]
    assert get(still, f"/v1/jobs/{answer['ids'][1][0]}")["after"] == [first]


def test_the_id_of_anothers_job_cannot_be_taken(still: World) -> None:
    status, answer = post(still, {"command": "true", "id": submit(still)}, "bob")
    assert (status, answer["code"]) == (409, "id_taken")


def test_jobs_may_come_after_what_is_there_by_name_or_id(still: World) -> None:
    first = submit(still, name="base")
    named = get(still, f"/v1/jobs/{submit(still, after=['base'])}")
    short = get(still, f"/v1/jobs/{submit(still, after=[first[-8:]])}")
    assert named["after"] == short["after"] == [first] and named["why"] == "Dependency"


# -- reading ---------------------------------------------------------------------------------------------------------------


def test_a_job_and_a_listing_have_the_documented_form(still: World) -> None:
    job_id = submit(still, name="formed", tags={"team": "vision"}, any_of=["big:1", "small"], deadline="6h", budget_usd=40)
    JobAnswer.model_validate(get(still, f"/v1/jobs/{job_id}"), strict=False)
    listing = get(still, "/v1/jobs?limit=50")
    Listing.model_validate(listing, strict=False)
    (job,) = [job for job in listing["jobs"] if job["id"] == job_id]
    assert (job["asks"], job["tags"], job["budget_usd"]) == ("big:1 or small", {"team": "vision"}, 40)
    assert job["deadline_s"] == pytest.approx(time.time() + 6 * 3600, abs=60)


def test_a_listing_can_be_narrowed(still: World) -> None:
    mine, bobs = submit(still), submit(still, "bob")
    ids = {
        query: {job["id"] for job in get(still, f"/v1/jobs?{query}", "bob")["jobs"]}
        for query in ("", "mine=true", "user=ann", "queue=nope")
    }
    assert {mine, bobs} <= ids[""] and mine not in ids["mine=true"] and bobs not in ids["user=ann"] and ids["queue=nope"] == set()
    assert all(job["state"] == "PENDING" for job in get(still, "/v1/jobs?state=pending,failed")["jobs"])
    assert len(get(still, "/v1/jobs?limit=2")["jobs"]) == 2


def test_waiting_ends_with_the_time_and_tells_how_it_stands(still: World) -> None:
    job_id = submit(still, gpus="2")
    began_s = time.monotonic()
    assert get(still, f"/v1/jobs/{job_id}/wait?timeout_s=0.2")["ended_s"] is None
    assert 0.15 < time.monotonic() - began_s < 5


def test_logs_can_be_followed_by_asking_on_from_the_last_byte(world: World) -> None:
    job_id = submit(world, command="echo one; sleep 0.3; echo two")
    text, offset, is_final, num_asked = b"", 0, False, 0
    while not is_final:
        reply = world.ask("ann", "GET", f"/v1/jobs/{job_id}/logs?offset={offset}&wait_s=5")
        text, offset, num_asked = text + reply.body, int(reply.headers["x-fabric-next-offset"]), num_asked + 1
        is_final = reply.headers["x-fabric-final"] == "true"
    assert text == b"one\ntwo\n" and num_asked < 8
    assert world.ask("ann", "GET", f"/v1/jobs/{job_id}/logs?offset=4").body == b"two\n"


def test_explain_plan_story_and_usage_have_the_documented_keys(still: World) -> None:
    submit(still, "bob", name="ahead", gpus="big:2")
    job_id = submit(still, name="behind", gpus="big:2")
    explanation = get(still, f"/v1/jobs/{job_id}/explain")
    assert set(explanation) == EXPLANATION_KEYS and "ahead" in [each["name"] for each in explanation["ahead"]]
    assert all(set(way) == EXPLAINED_WAY_KEYS for way in explanation["ways"])
    plan = json.loads(still.ask("ann", "POST", "/v1/plan", b'{"command": "python t.py", "accelerators": "any"}').body)
    assert set(plan) == PLAN_KEYS and plan["job"]["name"] == "t" and plan["ways"][plan["chosen"]]["flavor"] == "big"
    assert get(still, f"/v1/jobs/{job_id}/story")["facts"][0]["kind"] == "JobSubmitted"
    usage = get(still, "/v1/usage?by=queue", "bob")
    assert [row["name"] for row in usage["rows"]] == ["default"] and set(usage["rows"][0]) == set(ROW_KEYS)


# -- who may what ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "nonsense", "tf_000000000000_" + "A" * 43])
def test_without_a_good_token_nothing_is_told(still: World, token: str | None) -> None:
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("PUT", "/v1/artefacts"), ("PUT", "/v1/policy"), ("GET", "/v1/tokens")):
        reply = still.ask(token, method, path, b"{}" if method != "GET" else None)
        assert (reply.status, json.loads(reply.body)["code"]) == (401, "unauthorized"), path
        assert reply.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_token(still: World) -> None:
    assert json.loads(still.ask(None, "GET", "/v1/health").body) == {"status": "ok", "api": "v1"}


def test_a_job_of_another_is_seen_with_read_and_touched_with_operate(world: World) -> None:
    job_id = submit(world, "root", command="echo secret output", name="private")
    world.plane.wait(job_id, 20)
    for page in ("", "/explain"):
        statuses = {user: world.ask(user, "GET", f"/v1/jobs/{job_id}{page}").status for user in ("ann", "bob", "ops", "root")}
        assert statuses == {"ann": 404, "bob": 200, "ops": 200, "root": 200}, page
    for method, page in (("GET", "/logs"), ("GET", "/result"), ("GET", "/story"), ("POST", "/cancel")):
        statuses = {user: world.ask(user, method, f"/v1/jobs/{job_id}{page}").status for user in ("ann", "bob", "ops")}
        assert (statuses["ann"], statuses["bob"]) == (404, 403) and statuses["ops"] < 300, page


def test_what_may_not_be_seen_is_as_what_is_not_there(still: World) -> None:
    job_id = submit(still, "root", name="hidden")
    hidden, missing = (json.loads(still.ask("ann", "GET", f"/v1/jobs/{name}").body) for name in (job_id, new_job_id()))
    assert {**hidden, "message": "", "context": {}} == {**missing, "message": "", "context": {}}
    assert all(job["user"] == "ann" for job in get(still, "/v1/jobs")["jobs"])
    assert still.ask("ann", "GET", "/v1/jobs?user=root").status == 403
    assert [row["name"] for row in get(still, "/v1/usage?by=user")["rows"]] == ["ann"]


def test_a_token_bound_to_queues_stays_in_them(still: World) -> None:
    policy = {**still.plane.policy_show()["document"], "spec": {"queues": [{"name": "default"}, {"name": "research"}, {"name": "side"}]}}
    still.plane.policy_apply(policy, "root")
    still.secrets["cleo"], _ = still.tokens.mint("cleo", ["submit", "operate"], queues=["research"])
    assert get(still, f"/v1/jobs/{submit(still, 'cleo')}", "cleo")["queue"] == "research"
    status, answer = post(still, {"command": "true", "queue": "side"}, "cleo")
    assert (status, answer["code"]) == (403, "forbidden")
    theirs = {queue: submit(still, "root", queue=queue) for queue in ("research", "side")}
    seen = {job["id"] for job in get(still, "/v1/jobs", "cleo")["jobs"]}
    assert theirs["research"] in seen and theirs["side"] not in seen
    assert still.ask("cleo", "POST", f"/v1/jobs/{theirs['side']}/cancel").status == 404
    assert still.ask("cleo", "POST", f"/v1/jobs/{theirs['research']}/cancel").status == 200
    assert [row["name"] for row in get(still, "/v1/usage?by=queue", "cleo")["rows"]] == ["research"]


def test_a_class_is_set_by_its_user_or_who_operates_and_orders_the_queue_anew(tmp_path: Path) -> None:
    classes = {"priorityClasses": [{"name": "high", "value": 5}, {"name": "low"}]}
    with a_world(tmp_path, runs=False) as world:
        world.plane.policy_apply({**world.plane.policy_show()["document"], "spec": classes}, "root")
        blocker = submit(world, "root", accelerators="big:2")
        first, second = (submit(world, "root", accelerators="big:2", priority="low", name=name) for name in ("first", "second"))

        def raised(user: str, body: bytes, job_id: str = second) -> tuple[int, Any]:
            reply = world.ask(user, "POST", f"/v1/jobs/{job_id}/priority", body)
            return reply.status, json.loads(reply.body)

        high = b'{"priority": "high"}'
        assert [(status, answer["code"]) for status, answer in (raised("ann", high), raised("bob", high))] == [
            (404, "unknown_job"),
            (403, "forbidden"),
        ]
        status, answer = raised("ops", b'{"priority": "hihg"}')
        assert (status, answer["code"], answer["hint"]) == (400, "unknown_priority_class", "did you mean high?")
        assert [raised("ops", body)[1]["code"] for body in (b"{}", b'{"priority": 3}', b'{"class": "high"}', b"no")] == [
            "bad_priority", "bad_priority", "unknown_key", "bad_request",
        ]  # fmt: skip
        assert [get(world, f"/v1/jobs/{job_id}", "root")["position"] for job_id in (first, second)] == [1, 2]
        for user in ("ops", "root"):  # twice is once
            status, job = raised(user, high)
            assert status == 200 and set(job) == set(JobAnswer.model_fields)
            assert (job["priority"], job["position"], job["state"]) == ("high", 1, "PENDING")
        facts = get(world, f"/v1/jobs/{second}/story", "root")["facts"]
        assert [(fact["kind"], fact["by"]) for fact in facts] == [("JobSubmitted", "root"), ("JobReprioritised", "ops")]
        assert get(world, f"/v1/jobs/{second}/explain", "root")["events"][1]["text"] == "class set to high by ops"
        assert raised("root", high, blocker)[1]["priority"] == "high", "it runs"
        assert raised("root", b'{"priority": ""}')[0] == 200
        world.ask("root", "POST", f"/v1/jobs/{first}/cancel")
        status, answer = raised("root", high, first)
        assert (status, answer["code"], answer["context"]) == (409, "job_ended", {"state": "CANCELLED"})
        assert raised("root", b'{"priority": "low"}', first)[0] == 200, "as it was"


def test_a_token_that_only_reads_raises_nothing(still: World) -> None:
    job_id = submit(still, "ann")
    still.secrets["ann-reads"], _ = still.tokens.mint("ann", ["read"])
    reply = still.ask("ann-reads", "POST", f"/v1/jobs/{job_id}/priority", b'{"priority": ""}')
    assert (reply.status, json.loads(reply.body)["code"]) == (403, "forbidden")


def test_secrets_reach_the_job_and_nothing_else(world: World) -> None:
    hidden = base64.b64encode(b"do not tell").decode()
    job_id = submit(world, command='test -n "$KEY" && echo ${#KEY}', secrets={"KEY": hidden}, env={"SHOWN": "x"})
    assert ended(world, job_id)["state"] == "SUCCEEDED"
    pages = ["", "/explain", "/logs", "/story", "/wait"]
    told = b"".join(world.ask("ann", "GET", f"/v1/jobs/{job_id}{page}").body for page in pages) + world.ask("ann", "GET", "/v1/jobs").body
    assert hidden.encode() not in told
    assert hidden not in repr(world.how(job_id))
    reply = world.ask("ann", "POST", "/v1/jobs", json.dumps({"command": "x", "secrets": {"bad name": hidden}}).encode())
    assert reply.status == 400 and hidden.encode() not in reply.body
    reply = world.ask("ann", "POST", "/v1/jobs", json.dumps({"command": "x", "secrets": {"KEY": [hidden]}}).encode())
    assert reply.status == 400 and hidden.encode() not in reply.body


def test_the_plane_may_refuse_for_now_and_says_when_to_come_back(still: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any) -> Any:
        raise RejectedError("too many submissions", code="busy", retryable=True, retry_after_s=2.5)

    monkeypatch.setattr(still.plane, "submit", busy)
    reply = still.ask("ann", "POST", "/v1/jobs", b'{"command": "true"}')
    assert (reply.status, reply.headers["retry-after"], json.loads(reply.body)["code"]) == (429, "2.5", "busy")


def test_a_fault_of_ours_tells_nothing_of_the_inside(still: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("/etc/inside")

    monkeypatch.setattr(still.plane, "find", broken)
    reply = still.ask("ann", "GET", "/v1/jobs/x")
    assert (reply.status, json.loads(reply.body)["code"]) == (500, "bug") and b"inside" not in reply.body.replace(b"/v1", b"")


def test_a_name_may_hold_what_a_path_must_quote(still: World, tmp_path: Path) -> None:
    job_id = submit(still, name="a b?c#d%2F")
    assert get(still, "/v1/jobs/a%20b%3Fc%23d%252F")["id"] == job_id
