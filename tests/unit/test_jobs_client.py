"""Jobs from Python: what is sent, what comes back, and what happens when the fabric is away for a moment."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fabric import jobs
from fabric.api.address import read_address, write_address
from fabric.api_client import ApiClient, Body, HttpTransport, Reply, client_of
from fabric.config import FabricConfig, load_config
from fabric.errors import ConfigError, FabricError, NoFitError, RejectedError, RuntimeFault, UnavailableError, UnknownNameError, UserError
from fabric.job_ids import new_job_id
from fabric.job_request import make_request
from fabric.states import JobState
from tests.api_world import UNTIL_S, World, a_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("client")) as made:
        yield made


@pytest.fixture(autouse=True)
def ann(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    world.told.clear()
    jobs.use(world.jobs("ann"))
    yield
    jobs.use(None)


def body_of(work: Any, *args: Any, **options: Any) -> Mapping[str, Any]:
    return make_request(work, args, None, None, options).body


def add(a: int, b: int = 1) -> int:
    return a + b


def fail() -> None:
    raise LookupError("not there")


# -- from submit to result -------------------------------------------------------------------------------------------------


def test_a_command_is_submitted_followed_and_ends(world: World) -> None:
    job = jobs.submit("echo one; sleep 0.2; echo two", name="steps")
    assert list(job.logs(follow=True)) == ["one\n", "two\n"]
    assert (job.wait(UNTIL_S), job.status(), job.result()) == (JobState.SUCCEEDED, JobState.SUCCEEDED, None)
    assert str(job.logs()) == "one\ntwo\n"
    assert str(job).startswith(f"steps ({job.id}): SUCCEEDED") and "steps" in str(job.explain())
    assert repr(job) == f"Job('steps', '{job.id}')" and job == jobs.find_job("steps") == pickle.loads(pickle.dumps(job))


def test_a_function_gives_its_value_or_its_own_exception(world: World) -> None:
    assert jobs.submit(add, 1, kwargs={"b": 41}).result(UNTIL_S) == 42
    job = jobs.submit(fail)
    with pytest.raises(LookupError, match="not there"):
        job.result(UNTIL_S)
    assert job.info()["name"] == "fail" and job.info()["family"].endswith(".fail")


def test_a_failed_command_raises_with_the_way_to_its_logs(world: World) -> None:
    job = jobs.submit("exit 3")
    with pytest.raises(RuntimeFault) as failed:
        job.result(UNTIL_S)
    assert failed.value.code == "job_failed" and f"`fabric logs {job.id[-8:]}`" == failed.value.hint


def test_a_cancelled_job_has_no_result(world: World) -> None:
    job = jobs.submit("sleep 30")
    with pytest.raises(RejectedError) as late:
        job.result(timeout_s=0.05)
    assert late.value.code == "not_finished"
    job.cancel()
    with pytest.raises(RejectedError) as cancelled:
        job.result(UNTIL_S)
    assert cancelled.value.code == "cancelled" and job.status() is JobState.CANCELLED


def test_a_job_can_be_given_another_class(world: World) -> None:
    job = jobs.submit("sleep 30")
    assert job.set_priority("default") in (JobState.PENDING, JobState.ADMITTED, JobState.RUNNING)
    assert job.info()["priority"] == "default"
    with pytest.raises(UnknownNameError, match="priority class"):
        job.set_priority("fast")
    job.cancel()
    job.wait(UNTIL_S)
    with pytest.raises(RejectedError) as late:
        job.set_priority("")
    assert late.value.code == "job_ended"


def test_an_array_is_given_another_class_where_its_jobs_have_not_ended(world: World) -> None:
    array = jobs.submit('test "$FABRIC_ARRAY_INDEX" = 0 || sleep 30', array=2)
    array[0].wait(UNTIL_S)
    array.set_priority("default")
    asked = [world.plane.core.jobs[job.id].spec.priority for job in array]
    assert asked == ["", "default"]
    with pytest.raises(UnknownNameError):
        array.set_priority("fast")
    array.cancel()


def test_an_array_is_a_sequence_of_jobs(world: World) -> None:
    array = jobs.submit("echo $FABRIC_ARRAY_INDEX", array=4, name="sweep")
    after = jobs.submit("echo done", after=array)
    assert (len(array), array[1].name) == (4, "sweep[1]") and array.wait(UNTIL_S) == {JobState.SUCCEEDED: 4}
    assert [str(job.logs()) for job in array] == ["0\n", "1\n", "2\n", "3\n"] and array.result() == [None] * 4
    assert after.wait(UNTIL_S) is JobState.SUCCEEDED and after.info()["after"] == list(array.ids)


def test_many_are_submitted_in_few_requests_and_may_name_each_other(world: World) -> None:
    before = len(world.transport.requests)
    many = [jobs.job("true", name=f"many-{i}", queue="default", cpus=1000 if i else 1) for i in range(2)]
    made = jobs.submit_many([jobs.job("true"), {"work": "true", "after": ["#0"]}, {"work": add, "args": (1,), "after": "#1"}])
    assert len(world.transport.requests) == before + 2  # the payload, then all jobs
    infos = [job.info() for job in made if isinstance(job, jobs.Job)]
    assert infos[1]["after"] == [made[0].id] and infos[2]["after"] == [made[1].id]
    with pytest.raises(NoFitError):
        jobs.submit_many(many)


def test_more_than_one_batch_keeps_its_references(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "BATCH", 2)
    first = jobs.submit("true", idempotency_key="batched")
    requests = [
        jobs.job("true", idempotency_key="batched"),
        jobs.job("true"),
        jobs.job("true", after=["#0", "#1"]),
        jobs.job("true", after="#2"),
    ]
    made = jobs.submit_many(requests)
    assert made[0] == first
    assert made[2].info()["after"] == [first.id, made[1].id] and made[3].info()["after"] == [made[2].id]  # type: ignore[union-attr]


def test_the_same_request_twice_is_one_job(world: World) -> None:
    request = jobs.job("true")
    assert jobs.submit_many([request]) == jobs.submit_many([request])


def test_a_plan_submits_nothing(world: World) -> None:
    before = len(world.plane.core.jobs)
    text = str(jobs.plan("python train.py", accelerators="any"))
    assert "chosen: big:1" in text and len(world.plane.core.jobs) == before
    assert jobs.plan(add, 1).as_json()["job"]["name"] == "add"


def test_the_queue_of_the_settings_is_the_default(world: World) -> None:
    client = jobs.Jobs(world.api("ann"), queue="nope")
    with pytest.raises(UnknownNameError, match="nope"):
        client.submit(jobs.job("true"))
    assert isinstance(client.submit(jobs.job("true", queue="default")), jobs.Job)


# -- what is sent ----------------------------------------------------------------------------------------------------------


def test_options_are_written_as_the_api_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "hidden")
    body = body_of(
        ["python", "train.py", "a b"], deadline=timedelta(hours=6), timeout=timedelta(minutes=2), env={"N": 3}, secrets=["MY_KEY"],
        any_of="big:1",
        after=["x", jobs.Job(None, new_job_id())], priority=None,
    )  # fmt: skip
    assert body["command"] == "python train.py 'a b'" and (body["deadline"], body["timeout"]) == (21600.0, 120.0)
    assert (body["env"], body["secrets"], body["any_of"]) == ({"N": "3"}, {"MY_KEY": "hidden"}, ["big:1"])
    assert len(body["after"]) == 2 and "priority" not in body
    assert "hidden" not in repr(make_request("x", (), None, None, {"secrets": ["MY_KEY"]}))


def test_a_moment_without_a_time_zone_is_this_machines() -> None:
    local = datetime(2030, 1, 1, 8).astimezone()
    for deadline in (datetime(2030, 1, 1, 8), "2030-01-01T08:00", local):
        assert datetime.fromisoformat(body_of("x", deadline=deadline)["deadline"]) == local
    assert body_of("x", deadline="6h")["deadline"] == "6h"


@pytest.mark.parametrize(
    ("work", "options", "code"),
    [
        ("", {}, "bad_command"),
        ([], {}, "bad_command"),
        (3, {}, "bad_command"),
        ("x", {"queu": "y"}, "unknown_option"),
        ("x", {"secrets": ["NOT_SET_ANYWHERE"]}, "bad_secrets"),
        ("x", {"env": ["A=1"]}, "bad_env"),
        ("x", {"after": [3]}, "bad_after"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(world: World, work: Any, options: dict[str, Any], code: str) -> None:
    before = len(world.transport.requests)
    with pytest.raises(FabricError) as refused:
        jobs.submit(work, **options)
    assert (refused.value.code, len(world.transport.requests)) == (code, before)


def test_a_command_takes_no_arguments() -> None:
    with pytest.raises(UserError, match="no arguments"):
        jobs.submit("echo", 1)


def test_an_argument_of_200_megabytes_is_refused_and_nothing_is_sent(world: World) -> None:
    before = len(world.transport.requests)
    with pytest.raises(UserError) as refused:
        jobs.submit(add, b"x" * 200_000_000)
    assert refused.value.code == "argument_too_large" and refused.value.hint and len(world.transport.requests) == before


# -- the working directory -------------------------------------------------------------------------------------------------


def test_the_present_directory_is_stored_where_the_command_names_a_file_of_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('hi')")
    assert make_request("python other.py", (), None, None, {}).working_dir is None
    assert make_request("python train.py", (), None, None, {"working_dir": None}).working_dir is None
    job = jobs.submit("python train.py")
    assert world.plane.has(world.how(job.id).working_dir)


def test_a_directory_is_sent_once_and_large_ones_are_told_with_their_biggest_files(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.bin").write_bytes(b"0" * 1_000_000)
    (tmp_path / "run.sh").write_text("true")
    before = len(world.transport.requests)
    jobs.submit("true", working_dir=".")
    assert world.told == []
    assert [method for method, _ in world.transport.requests[before:]] == ["HEAD", "PUT", "POST"]
    monkeypatch.setattr(jobs, "SHOWN_BYTES", 1_000_000)
    jobs.submit("true", working_dir=".")
    assert len(world.told) == 1 and "1.0 MiB in 2 files" in world.told.pop()
    monkeypatch.setattr(jobs, "LARGE_BYTES", 1_000_000)
    jobs.submit_many([jobs.job("true", working_dir=tmp_path), jobs.job("true", working_dir=".")])
    assert [method for method, _ in world.transport.requests[before + 3 :]] == ["POST", "POST"]
    assert "1.0 MiB in 2 files" in world.told[0] and world.told[1].split() == ["1.0", "MiB", "data.bin"]
    assert jobs.Jobs(world.api("ann")).submit(jobs.job("true", working_dir="."))
    assert [method for method, _ in world.transport.requests[before + 5 :]] == ["HEAD", "POST"]


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        jobs.submit("true", working_dir=tmp_path / "nope")
    assert refused.value.code == "working_dir_not_found"


# -- over a network that fails ---------------------------------------------------------------------------------------------


class Script:
    """A transport that answers by a script; errors are raised. Bodies are kept as they were sent."""

    def __init__(self, *answers: Reply | FabricError) -> None:
        self.answers, self.sent = list(answers), list[bytes]()

    def send(self, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float, can_repeat: bool = True) -> Reply:
        self.sent.append(body if isinstance(body, bytes) else b"" if body is None else body.read())
        answer = self.answers.pop(0)
        if isinstance(answer, FabricError):
            raise answer
        return answer


OK = Reply(200, {}, b'{"ok": true}')
BUSY = Reply(429, {"retry-after": "0.01"}, b'{"code": "busy", "message": "m", "hint": null, "context": {}}')
AWAY = UnavailableError("away", was_sent=True)
NEVER_SENT = UnavailableError("away", was_sent=False)


def scripted(*answers: Reply | FabricError, patience_s: float = 20.0) -> tuple[ApiClient, Script]:
    script = Script(*answers)
    return ApiClient(script, lambda: "t", patience_s=patience_s), script


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.api_client.PAUSE_S", (0.001, 0.002))


def test_a_fabric_that_was_never_there_is_told_at_once() -> None:
    client, script = scripted(AWAY, OK)
    with pytest.raises(UnavailableError):
        client.get("/v1/jobs")
    assert len(script.sent) == 1


def test_a_fabric_that_starts_on_this_machine_is_waited_for_and_told_when_it_does_not_come() -> None:
    script, tokens = Script(NEVER_SENT, NEVER_SENT, OK), iter([False, True, True, True])

    def token() -> str:
        if next(tokens):
            return "t"
        raise ConfigError("no token yet", code="token_not_found")

    assert ApiClient(script, token, is_starting=lambda: True).get("/v1/jobs") == {"ok": True} and not script.answers
    late = ApiClient(Script(*[NEVER_SENT] * 99), lambda: "t", patience_s=0.01, is_starting=lambda: True)
    with pytest.raises(UnavailableError, match="a fabric starts on this machine"):
        late.get("/v1/jobs")


def test_what_may_be_repeated_is_repeated_while_a_fabric_restarts() -> None:
    client, script = scripted(OK, AWAY, NEVER_SENT, OK)
    client.get("/v1/health")
    assert client.post("/v1/jobs", {"id": "same"}) == {"ok": True}
    assert len(set(script.sent[1:])) == 1 and len(script.sent) == 4


def test_what_may_not_be_repeated_is_not_once_it_was_sent() -> None:
    client, script = scripted(OK, NEVER_SENT, OK, AWAY, OK)
    client.get("/v1/health")
    assert client.post("/v1/tokens", {}, can_repeat=False) == {"ok": True}
    with pytest.raises(UnavailableError):
        client.post("/v1/tokens", {}, can_repeat=False)
    assert len(script.sent) == 4


def test_a_file_is_sent_again_from_its_start() -> None:
    client, script = scripted(OK, AWAY, OK)
    client.get("/v1/health")
    client.put("/v1/artefacts", io.BytesIO(b"whole"), "application/octet-stream")
    assert script.sent[1:] == [b"whole", b"whole"]


def test_a_fabric_that_is_busy_is_asked_again_when_it_said_until_patience_ends() -> None:
    client, script = scripted(BUSY, BUSY, OK)
    assert client.get("/v1/jobs") == {"ok": True} and len(script.sent) == 3
    client, script = scripted(BUSY, patience_s=0.0)
    with pytest.raises(RejectedError) as refused:
        client.get("/v1/jobs")
    assert refused.value.retryable and refused.value.retry_after_s == 0.01


# -- where the fabric is ---------------------------------------------------------------------------------------------------


def test_the_address_file_is_whole_and_private_and_says_so_when_it_is_missing(tmp_path: Path) -> None:
    write_address(tmp_path / "state" / "api.json", "http://127.0.0.1:1234")
    assert read_address(tmp_path / "state" / "api.json") == "http://127.0.0.1:1234"
    for content in ("", "{", "[]", "{}"):
        (tmp_path / "api.json").write_text(content)
        with pytest.raises(UnavailableError) as missing:
            read_address(tmp_path / "api.json")
        assert "fabric up" in (missing.value.hint or "")


def test_without_a_fabric_submitting_says_how_to_start_one(tmp_path: Path) -> None:
    client = client_of(FabricConfig(state_dir=tmp_path))
    with pytest.raises(FabricError) as missing:
        client.get("/v1/jobs")
    assert "fabric up" in (missing.value.hint or "")


def test_the_environment_names_api_and_token_before_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def send(
        self: HttpTransport, method: str, path: str, body: Body, headers: Mapping[str, str], timeout_s: float, can_repeat: bool = True
    ) -> Reply:
        asked.append((self._address(), headers["Authorization"]))
        return OK

    monkeypatch.setattr(HttpTransport, "send", send)
    monkeypatch.setenv("FABRIC_TOKEN", "tf_x")
    client_of(FabricConfig(state_dir=tmp_path, api={"url": "https://settings"})).get("/v1/jobs")  # type: ignore[arg-type]
    monkeypatch.setenv("FABRIC_API_URL", "https://environment")
    client_of(load_config().config).get("/v1/jobs")
    assert asked == [("https://settings", "Bearer tf_x"), ("https://environment", "Bearer tf_x")]


@pytest.mark.parametrize("url", ["localhost:80", "ftp://x", "http://", "http://x/path", "file:///etc/passwd"])
def test_what_is_not_the_url_of_an_api_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        HttpTransport(lambda: url).send("GET", "/v1/health", None, {}, 1.0, True)
    assert refused.value.code == "bad_api_url"


def test_one_client_serves_many_threads(world: World) -> None:
    made: list[Any] = []
    threads = [threading.Thread(target=lambda: made.append(jobs.submit("true", after="base-of-threads"))) for _ in range(8)]
    jobs.submit("sleep 30", name="base-of-threads")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(UNTIL_S)
    assert len({job.id for job in made}) == 8
    jobs.find_job("base-of-threads").cancel()
