"""Services on a real Serve: the constructor runs on the replica, calls by Python and by HTTP, autoscaling, and what goes wrong."""

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from onnx import TensorProto, helper

from fabric.errors import ModelError, RuntimeFault, UserError
from serve_apps import ModelService, load_model


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool], within_s: float) -> bool:
    tick, deadline_s = threading.Event(), time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        tick.wait(0.25)
    return True


def request(url: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def num_running(name: str) -> int:
    from ray import serve

    parts = serve.status().applications[name].deployments.values()
    return sum(count for part in parts for state, count in part.replica_states.items() if state == "RUNNING")


@pytest.fixture(scope="module")
def port(twin: Any) -> Iterator[int]:
    from ray import serve

    yield free_port()
    serve.shutdown()


# Service classes are made inside functions: they then travel by value, and the replicas need not be able to import the tests.
@pytest.fixture(scope="module")
def scaler(port: int, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("models") / "scale.onnx"
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 2))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)

    class Scaler(ModelService):
        def __init__(self, path: Path) -> None:
            self.model = load_model(path)
            self.pid = os.getpid()

        def predict(self, rows: list[list[float]]) -> Any:
            if not rows:
                raise ValueError("no rows")
            return {**self.model.infer({"x": rows}), "built_in": self.pid}

    said: list[str] = []
    service = Scaler(file)
    service.deploy(port=port, progress=said.append)
    assert said[-1] == f"scaler: serving at http://127.0.0.1:{port}/scaler"
    assert any("0 of 1 replicas" in line for line in said)
    return service


def test_the_constructor_ran_on_the_replica_and_predict_runs_there(scaler: Any) -> None:
    assert not hasattr(scaler, "model")
    result = scaler.predict([[1.0, 2.0]])
    assert numpy.array_equal(result["y"], [[2.0, 4.0]])
    assert result["built_in"] != os.getpid()
    here = scaler.local()
    assert numpy.array_equal(here.predict(rows=[[1.0, 2.0]])["y"], result["y"])
    assert here.pid == os.getpid()


def test_what_predict_raises_remotely_is_what_it_raises_locally(scaler: Any) -> None:
    with pytest.raises(ValueError, match=r"^no rows$"):
        scaler.predict([])
    with pytest.raises(ModelError) as caught:
        scaler.predict([[1.0]])
    assert caught.value.code == "wrong_shape"
    with pytest.raises(TypeError):
        scaler.predict()


def test_http_answers_with_the_same_result(scaler: Any, port: int) -> None:
    assert scaler.url == f"http://127.0.0.1:{port}/scaler"
    status, answer = request(f"{scaler.url}/predict", {"rows": [[1, 2]]})
    assert (status, answer["result"]["y"]) == (200, [[2.0, 4.0]])
    assert request(f"{scaler.url}/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("path", "body", "method", "status", "code"),
    [
        ("/predict", b"{", "POST", 400, "bad_json"),
        ("/predict", {"row": [[1, 2]]}, "POST", 400, "unknown_argument"),
        ("/predict", {}, "POST", 400, "missing_argument"),
        ("/nowhere", {}, "POST", 404, "not_found"),
        ("/predict", None, "GET", 405, "method_not_allowed"),
        ("/predict", {"rows": []}, "POST", 500, "predict_failed"),
        ("/predict", {"rows": [[1]]}, "POST", 500, "wrong_shape"),
    ],
)
def test_http_errors_have_a_status_and_a_code(scaler: Any, path: str, body: Any, method: str, status: int, code: str) -> None:
    got_status, answer = request(f"{scaler.url}{path}", body, method)
    assert (got_status, answer["error"]["code"]) == (status, code)


def test_a_second_address_for_the_one_http_server_is_refused(scaler: Any) -> None:
    with pytest.raises(UserError) as caught:
        type(scaler)("elsewhere").deploy(name="second", port=free_port())
    assert caught.value.code == "serve_address_differs"


def test_a_constructor_that_raises_surfaces_in_deploy_and_leaves_nothing(scaler: Any) -> None:
    from ray import serve

    with pytest.raises(ModelError) as caught:
        type(scaler)(Path("/nowhere/model.onnx")).deploy(name="broken", progress=lambda line: None)
    assert caught.value.code == "constructor_failed"
    assert "no model at /nowhere/model.onnx" in caught.value.message
    assert "code: model_not_found" in caught.value.message
    assert "broken" not in serve.status().applications
    assert "scaler" in serve.status().applications


def test_cpu_load_adds_a_replica_and_delete_removes_the_service(port: int) -> None:
    from ray import serve

    class Burner(ModelService):
        def predict(self, seconds: float) -> int:
            until_s = time.process_time() + seconds
            while time.process_time() < until_s:
                pass
            return os.getpid()

    service = Burner().deploy(autoscale={"metric": "cpu_utilization", "target": 15, "min": 1, "max": 2}, progress=lambda line: None)
    assert num_running("burner") == 1
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            service.predict(seconds=0.2)

    load = threading.Thread(target=burn)
    load.start()
    try:
        assert wait_until(lambda: num_running("burner") == 2, within_s=60)
    finally:
        stop.set()
        load.join(timeout=30)
    service.delete()
    assert wait_until(lambda: "burner" not in serve.status().applications, within_s=30)
    with pytest.raises(UserError):
        service.predict(seconds=0.0)


def test_a_taken_port_is_named_before_serve_starts(scaler: Any) -> None:
    from serve_apps.deployment import _start_serve

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RuntimeFault) as caught:
            _start_serve("127.0.0.1", other.getsockname()[1], placement=None)  # type: ignore[arg-type]
    assert caught.value.code == "port_taken"
