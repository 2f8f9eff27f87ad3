"""What constructing, planning and serving a ModelService means, without Ray."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy
import pytest
from starlette.requests import Request

from fabric.errors import FabricError, ModelError, UserError
from serve_apps import ModelService
from serve_apps.autoscaling.rule import Autoscale
from serve_apps.model_service import Capture, check_arguments, plan_deploy, predict_signature, service_name
from serve_apps.replica import Replica, to_json
from serve_apps.runtimes import NUM_THREADS

built: list[tuple[Any, ...]] = []


class Doubler(ModelService):
    def __init__(self, factor: int, *, name: str = "d") -> None:
        built.append((factor, name))
        self.factor = factor

    def predict(self, number: int, times: int = 1) -> int:
        return number * self.factor * times


class WithoutPredict(ModelService):
    pass


@pytest.fixture(autouse=True)
def nothing_built() -> Iterator[None]:
    built.clear()
    yield
    built.clear()


def test_importing_the_package_brings_in_neither_ray_nor_a_runtime() -> None:
    code = "import sys, serve_apps; serve_apps.ModelService; print([m for m in ('ray', 'onnxruntime', 'numpy') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_load_model_is_the_function_however_its_module_was_first_imported() -> None:
    code = "import serve_apps.load_model; from serve_apps import load_model; print(callable(load_model))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "True"


def test_constructing_a_service_captures_and_builds_nothing() -> None:
    service = Doubler(3, name="x")
    assert built == []
    assert isinstance(service, Doubler)
    assert not hasattr(service, "factor")


def test_local_builds_and_runs_here() -> None:
    service = Doubler(3, name="x").local()
    assert built == [(3, "x")]
    assert service.predict(5) == 15


def test_a_local_service_cannot_be_deployed() -> None:
    with pytest.raises(UserError) as caught:
        Doubler(3).local().deploy()
    assert caught.value.code == "already_built"


@pytest.mark.parametrize("use", [lambda s: s.predict(1), lambda s: s.url, lambda s: s.delete()], ids=["predict", "url", "delete"])
def test_what_needs_a_deployed_service_says_how_to_get_one(use: Any) -> None:
    with pytest.raises(UserError) as caught:
        use(Doubler(3))
    assert caught.value.code == "not_deployed"
    assert ".deploy()" in (caught.value.hint or "")
    assert ".local()" in (caught.value.hint or "")


def test_wrong_constructor_arguments_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="missing a required argument: 'factor'") as caught:
        Doubler()  # type: ignore[call-arg]
    assert caught.value.code == "bad_arguments"


def test_a_class_without_predict_is_refused() -> None:
    with pytest.raises(UserError, match="WithoutPredict has no predict method") as caught:
        WithoutPredict()
    assert caught.value.code == "no_predict"


def test_a_captured_service_and_its_class_survive_pickling_by_value() -> None:
    class Inner(ModelService):
        def __init__(self, word: str) -> None:
            self.word = word

        def predict(self) -> str:
            return self.word

    copy = cloudpickle.loads(cloudpickle.dumps(Capture(Inner, ("hello",), {})))
    assert copy.build().predict() == "hello"
    again = cloudpickle.loads(cloudpickle.dumps(Inner("hello")))
    assert again.local().predict() == "hello"


@pytest.mark.parametrize(
    ("cls_name", "name"),
    [("TextClassifier", "text-classifier"), ("OCRModel", "ocr-model"), ("Bert2Small", "bert2-small"), ("my_model", "my-model"), ("A", "a")],
)
def test_services_are_named_after_their_class(cls_name: str, name: str) -> None:
    assert service_name(type(ModelService)(cls_name, (ModelService,), {})) == name  # type: ignore[misc]


def test_a_plan_has_sensible_defaults() -> None:
    plan = plan_deploy(Doubler)
    assert (plan.name, plan.replicas, plan.autoscale, plan.num_cpus, plan.tier) == ("doubler", 1, None, 0.1, None)
    scaled = plan_deploy(Doubler, autoscale={"target": 70, "min": 2, "max": 10})
    assert scaled.replicas == 2
    assert scaled.autoscale == Autoscale("cpu_utilization", 70.0, 2, 10)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"replicas": 0}, "bad_replicas"),
        ({"replicas": 1.5}, "bad_replicas"),
        ({"replicas": True}, "bad_replicas"),
        ({"replicas": 1, "autoscale": {"target": 70, "min": 2, "max": 4}}, "bad_replicas"),
        ({"replicas": 5, "autoscale": {"target": 70, "min": 2, "max": 4}}, "bad_replicas"),
        ({"autoscale": {"target": 70, "maximum": 4}}, "unknown_autoscale_key"),
        ({"name": "Text Classifier"}, "bad_name"),
        ({"name": ""}, "bad_name"),
        ({"num_cpus": 0}, "bad_num_cpus"),
        ({"timeout_s": -1}, "bad_timeout_s"),
        ({"port": 0}, "bad_port"),
        ({"port": 70000}, "bad_port"),
    ],
)
def test_unsound_deploy_arguments_are_refused(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_deploy(Doubler, **arguments)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("given", "code", "hint"),
    [
        ({"number": 1, "time": 2}, "unknown_argument", "did you mean times?"),
        ({"nmber": 1}, "unknown_argument", "did you mean number?"),
        ({}, "missing_argument", "it takes: number, times"),
    ],
)
def test_arguments_are_checked_against_the_signature(given: dict[str, Any], code: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments(predict_signature(Doubler), given)
    assert (caught.value.code, caught.value.hint) == (code, hint)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.array([[1.5, 2.0]], dtype=numpy.float32), [[1.5, 2.0]]),
        (numpy.int64(3), 3),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.array(["a"], dtype=object), ["a"]),
        ({"label": numpy.array([1]), 2: (1, None)}, {"label": [1], "2": [1, None]}),
        (float("nan"), None),
        (numpy.array([numpy.inf, 1.0]), [None, 1.0]),
        (b"bytes", "bytes"),
    ],
)
def test_results_become_json(value: Any, expected: Any) -> None:
    assert to_json(value) == expected
    assert type(to_json(value)) is type(expected)


def test_a_result_without_a_form_in_json_is_named() -> None:
    with pytest.raises(ModelError, match="object"):
        to_json({"a": object()})


class Awkward(ModelService):
    """Answers by the kind of trouble asked for, and reports the thread that built it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.num_threads = NUM_THREADS.get()

    def predict(self, trouble: str = "") -> Any:
        if trouble == "value":
            raise ValueError("too blue")
        if trouble == "model":
            raise ModelError("bad shape", code="wrong_shape", hint="use [1, 3]")
        if trouble == "object":
            return object()
        return [threading.get_ident() == self.thread, self.num_threads]


def call(replica: Replica, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any], dict[str, str]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": method, "path": f"/svc{path}", "root_path": "/svc", "headers": [], "query_string": b""}
    response = asyncio.run(replica(Request(scope, receive)))
    return response.status_code, json.loads(bytes(response.body)), dict(response.headers)


def test_one_thread_builds_the_service_and_runs_its_calls() -> None:
    replica = Replica(Capture(Awkward, (), {}), 2.0, ".")
    assert call(replica, "POST", "/predict", b"{}")[:2] == (200, {"result": [True, 2]})
    assert asyncio.run(replica.predict()) == [True, 2]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "says"),
    [
        ("POST", "/predict", b"{", 400, "bad_json", "not JSON"),
        ("POST", "/predict", b"[1]", 400, "bad_json", "list"),
        ("POST", "/predict", b'{"troubl": "x"}', 400, "unknown_argument", "troubl"),
        ("POST", "/nowhere", b"", 404, "not_found", "/nowhere"),
        ("POST", "", b"", 404, "not_found", "/"),
        ("GET", "/predict", b"", 405, "method_not_allowed", "GET"),
        ("POST", "/healthz", b"", 405, "method_not_allowed", "POST"),
        ("POST", "/predict", b'{"trouble": "value"}', 500, "predict_failed", "ValueError: too blue"),
        ("POST", "/predict", b'{"trouble": "model"}', 500, "wrong_shape", "ModelError: bad shape"),
        ("POST", "/predict", b'{"trouble": "object"}', 500, "result_not_json", "object"),
    ],
)
def test_http_errors_have_one_form(method: str, path: str, body: bytes, status: int, code: str, says: str) -> None:
    got_status, answer, headers = call(Replica(Capture(Awkward, (), {}), 0.1, "."), method, path, body)
    assert (got_status, answer["error"]["code"]) == (status, code)
    assert set(answer["error"]) == {"code", "message", "hint"}
    assert says in answer["error"]["message"]
    assert "Traceback" not in json.dumps(answer)
    if status == 405:
        assert headers["allow"]


def test_a_replica_runs_where_deploy_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(".")  # so that the directory is put back after the test
    Replica(Capture(Awkward, (), {}), 0.1, str(tmp_path))
    assert Path.cwd() == tmp_path
    Replica(Capture(Awkward, (), {}), 0.1, str(tmp_path / "only-on-another-machine"))
    assert Path.cwd() == tmp_path


def test_healthz_says_ok() -> None:
    assert call(Replica(Capture(Awkward, (), {}), 0.1, "."), "GET", "/healthz")[:2] == (200, {"status": "ok"})


def test_a_replica_reports_its_cpu_use() -> None:
    reported = Replica(Capture(Awkward, (), {}), 0.1, ".").record_autoscaling_stats()
    assert "cpu_utilization" in reported
    assert reported["cpu_utilization"] >= 0.0


def test_a_constructor_error_carries_its_hint_in_the_traceback() -> None:
    class Broken(ModelService):
        def __init__(self) -> None:
            raise ModelError("no weights", code="model_not_found", hint="copy them")

        def predict(self) -> None: ...

    with pytest.raises(FabricError) as caught:
        Replica(Capture(Broken, (), {}), 0.1, ".")
    assert caught.value.__notes__ == ["code: model_not_found\nhint: copy them"]
