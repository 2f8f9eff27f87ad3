"""What a submit request means, and how what is wrong with one is refused: a code, a hint, nothing half-done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fabric.api.exchange import MAX_JSON_BYTES
from fabric.api.faults import error_from, error_json, status_of
from fabric.api.intake import Intake
from fabric.api.schema import MAX_JOBS, SubmitRequest, read_jobs
from fabric.api.tokens import Principal
from fabric.byte_sizes import parse_bytes
from fabric.errors import BugError, FabricError, NoFitError, RejectedError, RuntimeFault, UnavailableError, UnknownNameError, UserError
from fabric.job import JobId, Shape
from fabric.job_ids import is_job_id, member_id, new_job_id
from tests.api_world import World, a_world
from tests.fleet import FLAVORS

NOW_S = 1_800_000_000.0
ANN = Principal("ann", frozenset({"submit"}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("requests"), runs=False) as made:
        yield made


def taken(*jobs: dict[str, Any], who: Principal = ANN) -> Any:
    """The submissions of each job."""
    known = {"base": JobId(new_job_id())}

    def find(word: str) -> tuple[JobId, ...]:
        if word not in known:
            raise UnknownNameError(f"unknown job {word!r}", code="unknown_job")
        return (known[word],)

    requests = read_jobs(json.dumps([{"command": "python train.py", **job} for job in jobs]).encode())
    return Intake(who, FLAVORS, NOW_S, find).read(requests)


def one(**job: Any) -> Any:
    return taken(job)[0][0]


# -- what it means ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "shapes"),
    [
        ({}, [Shape()]),
        ({"accelerators": "big:2"}, [Shape("big", 2)]),
        ({"accelerators": "big:2x2"}, [Shape("big", 2, num_bundles=2, spread=True)]),
        ({"gpus": "2-8"}, [Shape("gpu", 1, num_bundles=2, max_bundles=8)]),
        ({"gpus": 4, "cpus": 8, "memory": "20GB"}, [Shape("gpu", 4, 8.0, 20 * 10**9)]),
        ({"accelerators": "any"}, [Shape("", 1)]),
        ({"any_of": ["big:1", "small:2"]}, [Shape("big", 1), Shape("small", 2)]),
        ({"gpus": "big:1", "any_of": ["small:2", "big:1"]}, [Shape("big", 1), Shape("small", 2)]),
        ({"resources": "auto", "cpus": 2}, [Shape("", 1, 2.0), Shape("", 0, 2.0)]),
        ({"cpus": 0.5, "memory": 1024}, [Shape("", 0, 0.5, 1024)]),
    ],
)
def test_what_is_asked_for_becomes_shapes(asked: dict[str, Any], shapes: list[Shape]) -> None:
    assert list(one(**asked).spec.shapes) == shapes


@pytest.mark.parametrize(
    ("deadline", "at_s"),
    [("6h", NOW_S + 21600), (90, NOW_S + 90), ("2027-01-16T00:00:00Z", 1800057600.0), ("2027-01-16T01:00:00+01:00", 1800057600.0)],
)
def test_a_deadline_is_from_now_or_a_moment(deadline: Any, at_s: float) -> None:
    assert one(deadline=deadline).spec.deadline_s == at_s


@pytest.mark.parametrize(
    ("command", "name", "family"),
    [
        ("python train.py --lr 3", "train", "python train.py"),
        ("python -u src/train.py", "train", "python src/train.py"),
        ("LR=3 python train.py", "train", "python train.py"),
        ("python -m lab.train --x", "train", "python lab.train"),
        ("./run.sh 3", "run", "./run.sh"),
        ("echo hello", "echo", "echo"),
        ("make 'unfinished", "make", "make"),
        ("X=1", "job", "job"),
    ],
)
def test_a_job_is_named_and_remembered_by_its_program(command: str, name: str, family: str) -> None:
    spec = one(command=command).spec
    assert (spec.name, spec.family) == (name, family)
    named = one(command=command, name="mine").spec
    assert (named.name, named.family) == ("mine", "mine")


def test_the_rest_goes_where_it_belongs() -> None:
    made = one(
        priority="production", timeout="2h", max_retries=3, tags={"a": "b"}, env={"A": "1"}, secrets={"S": "x"}, working_dir="0" * 64,
        checkpoint_dir="out/ckpt", grace="1m", preemptible=False, budget_usd=0, runtime_env={"pip": ["x"]}, form="ray-program",
    )  # fmt: skip
    spec, how = made.spec, made.how
    assert (spec.priority, spec.timeout_s, spec.max_retries, spec.budget_usd, spec.can_resume, spec.is_preemptible) == (
        "production", 7200.0, 3, 0.0, True, False,
    )  # fmt: skip
    assert (how.env, how.secrets, how.working_dir, how.checkpoint_dir, how.grace_s) == ({"A": "1"}, {"S": "x"}, "0" * 64, "out/ckpt", 60.0)
    assert how.runtime_env == {"pip": ["x"]} and spec.form == how.form == "ray-program"
    assert "x" not in json.dumps(made.summary["asks"]) and made.summary["command"] == "python train.py"


def test_ids_are_uuid7_in_the_order_of_time_and_members_follow_from_their_array() -> None:
    ids = [new_job_id() for _ in range(2000)]
    assert len(set(ids)) == 2000 and all(map(is_job_id, ids))
    stamps = [job_id[:13] for job_id in ids]
    assert stamps == sorted(stamps)
    members = [member_id(ids[0], i) for i in range(1000)]
    assert len(set(members)) == 1000 and all(map(is_job_id, members)) and members == [member_id(ids[0], i) for i in range(1000)]
    first, second = taken({"id": ids[0], "array": 5}, {"after": ["#0"]})
    assert [each.spec.job_id for each in first] == members[:5] == list(second[0].spec.after)
    assert {each.spec.array_id for each in first} == {ids[0]}


def test_a_token_of_one_queue_submits_there() -> None:
    bound = Principal("ann", frozenset({"submit"}), frozenset({"research"}))
    assert taken({}, who=bound)[0][0].spec.queue == "research"
    assert one().spec.queue == "default"


# -- what is refused -------------------------------------------------------------------------------------------------------

_BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"queu": "x"}, "unknown_key", "did you mean queue?"),
    ({"budget_usd": -1}, "bad_budget_usd", "dollars, 0 or more"),
    ({"budget_usd": "much"}, "bad_budget_usd", ""),
    ({"cpus": 0}, "bad_cpus", ""),
    ({"array": 0}, "bad_array", ""),
    ({"array": 10_001}, "bad_array", ""),
    ({"max_retries": 1000}, "bad_max_retries", ""),
    ({"id": "7"}, "bad_id", "a UUIDv7"),
    ({"command": ""}, "bad_command", ""),
    ({"command": "x", "payload": "0" * 64}, "bad_command", "exactly one"),
    ({"command": None}, "bad_command", "exactly one"),
    ({"form": "callable"}, "bad_form", ""),
    ({"form": "notebook"}, "bad_form", ""),
    ({"accelerators": "Z100:4"}, "unknown_flavor", "known:"),
    ({"accelerators": "bigg:4"}, "unknown_flavor", "did you mean big?"),
    ({"accelerators": "4 of those"}, "bad_accelerators", "A100:4"),
    ({"accelerators": "big:1", "gpus": "2"}, "bad_accelerators", "leave one out"),
    ({"resources": "auto", "gpus": "2"}, "bad_resources", "auto"),
    ({"memory": "lots"}, "bad_size", "20GB"),
    ({"deadline": "soon"}, "bad_duration", "90s"),
    ({"deadline": "2020-01-01T00:00:00Z"}, "bad_deadline", "later"),
    ({"deadline": "2030-01-01T00:00:00"}, "bad_deadline", "Z for UTC"),
    ({"deadline": "2030-13-01"}, "bad_deadline", ""),
    ({"deadline": "0s"}, "bad_deadline", ""),
    ({"timeout": "0s"}, "bad_timeout", ""),
    ({"timeout": "-5"}, "bad_duration", ""),
    ({"grace": "x"}, "bad_duration", ""),
    ({"after": ["#1"]}, "bad_after", "#0 to #0"),
    ({"after": ["#x"]}, "bad_after", ""),
    ({"after": ["nobody"]}, "unknown_job", ""),
    ({"after": ["#0"]}, "dependency_cycle", "after="),
    ({"env": {"1A": "x"}}, "bad_env", ""),
    ({"env": {"A": "x\0"}}, "bad_env", ""),
    ({"env": {"A": 3}}, "bad_env", ""),
    ({"env": {"A": "x" * 300_000}}, "too_large", "file"),
    ({"env": {"A": "1"}, "secrets": {"A": "2"}}, "bad_secrets", ""),
    ({"checkpoint_dir": "/data"}, "bad_checkpoint_dir", "relative"),
    ({"checkpoint_dir": "a/../../b"}, "bad_checkpoint_dir", "relative"),
    ({"name": "a/b"}, "bad_name", ""),
    ({"working_dir": "here"}, "bad_working_dir", "digest"),
    ({"tags": ["x"]}, "bad_tags", ""),
]


@pytest.mark.parametrize(("job", "code", "hint"), _BAD, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_refused_with_a_code_and_a_hint(job: dict[str, Any], code: str, hint: str) -> None:
    with pytest.raises(FabricError) as refused:
        taken(job)
    assert (refused.value.code, hint in (refused.value.hint or "")) == (code, True), refused.value.render()
    assert status_of(refused.value) in (400, 403, 404, 413)


def test_of_many_the_first_that_is_wrong_is_named_and_none_is_taken(world: World) -> None:
    before = len(world.plane.core.jobs)
    jobs = [{"command": "true"}, {"command": "true", "accelerators": "Z100"}, {"command": "true", "memory": "x"}]
    answer = json.loads(world.ask("ann", "POST", "/v1/jobs", json.dumps(jobs).encode()).body)
    assert (answer["code"], answer["context"]["index"], answer["message"][:4]) == ("unknown_flavor", 1, "[1]:")
    jobs = [{"command": "true"}, {"command": "true", "queue": "nope"}]
    assert json.loads(world.ask("ann", "POST", "/v1/jobs", json.dumps(jobs).encode()).body)["code"] == "unknown_queue"
    assert len(world.plane.core.jobs) == before


@pytest.mark.parametrize("after", [[["#1"], ["#0"]], [["#1"], ["#2"], ["#0"]], [[], ["#2"], ["#1"]]])
def test_jobs_that_wait_for_each_other_are_refused(after: list[list[str]]) -> None:
    with pytest.raises(UserError) as refused:
        taken(*[{"name": f"job-{i}", "after": each} for i, each in enumerate(after)])
    assert refused.value.code == "dependency_cycle" and "job-1" in refused.value.message


def test_two_jobs_of_a_submission_have_two_ids() -> None:
    same = new_job_id()
    with pytest.raises(UserError) as refused:
        taken({"id": same}, {"id": same})
    assert refused.value.code == "bad_id"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"[1]", b"null", b"\xff\xfe", b'{"command": "x"} trailing'])
def test_a_body_that_is_no_job_is_refused(world: World, body: bytes) -> None:
    reply = world.ask("ann", "POST", "/v1/jobs", body)
    assert reply.status == 400 and json.loads(reply.body)["code"] == "bad_request", reply.body


def test_too_many_jobs_are_refused() -> None:
    with pytest.raises(UserError) as refused:
        read_jobs(json.dumps([{"command": "x"}] * (MAX_JOBS + 1)).encode())
    assert refused.value.code == "bad_request" and "1,000" in (refused.value.hint or "")
    with pytest.raises(UserError) as refused:
        taken({"array": 6000}, {"array": 6000})
    assert refused.value.code == "too_large"


def test_a_body_that_is_too_large_is_refused_without_reading_it(world: World) -> None:
    reply = world.ask("ann", "POST", "/v1/jobs", b"{}", **{"Content-Length": str(MAX_JSON_BYTES + 1)})
    assert reply.status in (400, 413)  # whichever length counts, it is not taken
    reply = world.ask("ann", "POST", "/v1/jobs", b'{"command": "' + b"x" * MAX_JSON_BYTES + b'"}')
    assert (reply.status, json.loads(reply.body)["code"]) == (413, "too_large")


def test_queries_are_checked_like_bodies(world: World) -> None:
    for path, code in (
        ("/v1/jobs?limt=3", "unknown_key"),
        ("/v1/jobs?limit=0", "bad_limit"),
        ("/v1/jobs?state=SLEEPING", "unknown_state"),
        ("/v1/usage?by=color", "bad_by"),
    ):
        reply = world.ask("bob", "GET", path)
        assert (reply.status, json.loads(reply.body)["code"]) == (400, code), path


def test_pages_that_do_not_exist_say_where_the_pages_are(world: World) -> None:
    for method, path, status in (("GET", "/v2/jobs", 404), ("GET", "/", 404), ("DELETE", "/v1/jobs", 405), ("GET", "/v1/plan", 405)):
        reply = world.ask("ann", method, path)
        assert reply.status == status and "openapi" in json.loads(reply.body)["hint"], path


def test_nothing_of_a_request_shows_its_secrets() -> None:
    request = SubmitRequest(command="x", secrets={"KEY": "hunter2"}, env={"A": "hunter2"})
    assert "hunter2" not in repr(request) + str(request)


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("20 GiB", 20 * 2**30), ("512mb", 512 * 10**6), ("1.5T", 1.5e12), ("7", 7), (9, 9), ("10B", 10), ("2k", 2000)],
)
def test_amounts_of_memory_are_read_as_people_write_them(text: Any, size: float) -> None:
    assert parse_bytes(text) == int(size)


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "20 G B", True, float("inf"), float("nan"), "9" * 30])
def test_what_is_no_amount_of_memory_is_refused(text: Any) -> None:
    with pytest.raises(UserError, match="not an amount"):
        parse_bytes(text)


# -- errors over HTTP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("m", code="bad_x", hint="h", index=3), 400),
        (UserError("m", code="unauthorized"), 401),
        (RejectedError("m", code="forbidden", scope="admin"), 403),
        (UnknownNameError("m", code="unknown_job", name="x"), 404),
        (UnknownNameError("m", code="unknown_queue", name="x"), 400),
        (RejectedError("m", code="id_taken"), 409),
        (NoFitError("m", shortfalls={"hot": "GPU"}), 409),
        (UserError("m", code="argument_too_large"), 413),
        (RejectedError("m", code="busy", retryable=True, retry_after_s=2.0), 429),
        (RuntimeFault("m", code="broken"), 500),
        (BugError("m"), 500),
        (RuntimeFault("m", code="journal", hint="disk full"), 503),
        (UnavailableError("m"), 503),
    ],
)
def test_an_error_comes_back_over_http_as_it_was(error: FabricError, status: int) -> None:
    assert status_of(error) == status
    back = error_from(status, json.dumps(error_json(error)).encode(), {"retry-after": "2"})
    assert (back.code, back.message, back.hint, back.exit_status) == (error.code, error.message, error.hint, error.exit_status)
    assert {**back.context} == {**error.context}


@pytest.mark.parametrize("body", [b"<html>502 Bad Gateway</html>", b"", b"[]", b'"x"', b'{"detail": "Not Found"}'])
def test_an_answer_that_is_not_ours_is_an_unavailable_fabric(body: bytes) -> None:
    error = error_from(502, body, {})
    assert isinstance(error, UnavailableError) and "502" in error.message and error.exit_status == 4
