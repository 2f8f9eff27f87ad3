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

import grpc
import numpy
import onnx
import pytest
from onnx import TensorProto, helper

import serve_apps
from fabric.errors import ModelError, UnavailableError, UserError
from serve_apps import ModelService, load_model
from serve_apps.oip import messages


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


def shown(name: str) -> Any:
    from fabric import ray_io

    return ray_io.ask(ray_io.actor("models").shown.remote(name))[0]


def num_running(name: str) -> int:
    model = shown(name)
    return sum(len(version["replicas"]) for version in model["versions"] if version["version"] == model["default"])


def infer(url: str, rows: Any, **more: Any) -> tuple[int, Any]:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows}], **more}
    return request(f"{url}/infer", body)


@pytest.fixture(scope="module")
def port(twin: Any) -> Iterator[int]:
    from ray import serve

    from fabric import ray_io

    yield free_port()
    for name in ("models", "ingress"):
        ray_io.end_actor(name)
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
    vars(service)["file"] = file
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
        ("/nowhere", {}, "POST", 404, None),
        ("/predict", None, "GET", 405, None),
        ("/predict", {"rows": []}, "POST", 500, "predict_failed"),
        ("/predict", {"rows": [[1]]}, "POST", 400, "wrong_shape"),
    ],
)
def test_http_errors_have_a_status_and_a_code(scaler: Any, path: str, body: Any, method: str, status: int, code: str | None) -> None:
    got_status, answer = request(f"{scaler.url}{path}", body, method)
    # What no route takes is told in the words of the Open Inference Protocol, whose errors are plain text.
    error = answer["error"]
    assert (got_status, error["code"] if isinstance(error, dict) else None) == (status, code)


def test_what_it_answers_and_costs_is_counted(scaler: Any) -> None:
    from fabric import ray_io

    def row() -> Any:
        return next(row for row in ray_io.ask(ray_io.actor("models").usage.remote()) if row["name"] == "scaler")

    scaler.predict([[1.0, 2.0]])
    assert wait_until(lambda: row()["requests"] > 0 and row()["replica_hours"] > 0, 20.0), row()
    before = row()
    assert before["replicas"] == 1 and sum(before["flavor_hours"].values()) == before["replica_hours"]
    assert before["cost_usd"] == pytest.approx(before["usd_per_h"] * before["replica_hours"])
    assert wait_until(lambda: row()["replica_hours"] > before["replica_hours"], 20.0)


def test_a_second_address_for_the_one_http_server_is_refused(scaler: Any) -> None:
    with pytest.raises(UserError) as caught:
        type(scaler)("elsewhere").deploy(name="second", port=free_port())
    assert caught.value.code == "serve_address_differs"


def test_the_protocols_answer_for_a_model_file(scaler: Any, port: int) -> None:
    from serve_apps.model_file import deploy_file

    live = deploy_file(vars(scaler)["file"], name="double", say=lambda line: None)
    url = f"http://127.0.0.1:{port}/v2/models/double"
    assert request(url)[1]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    status, answer = infer(url, [[1.0, 2.0]], id="seven")
    assert (status, answer["id"], answer["model_version"], answer["outputs"][0]["data"]) == (200, "seven", "1", [2.0, 4.0])
    assert infer(f"{url}/versions/1", [[1.0, 2.0]])[0] == 200
    assert infer(f"{url}/versions/9", [[1.0, 2.0]])[0] == 404
    assert infer(url, [[1.0, 2.0, 3.0]])[0] == 400
    assert infer(f"http://127.0.0.1:{port}/v2/models/nobody", [[1.0]])[0] == 404
    with grpc.insecure_channel(live.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        wanted = messages.ModelInferRequest(model_name="double", id="8")
        tensor = wanted.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        tensor.contents.fp32_contents.extend([1.0, 2.0])
        got = messages.ModelInferResponse.FromString(call(wanted.SerializeToString(), timeout=30))
    assert (got.id, numpy.frombuffer(got.raw_output_contents[0], "<f4").tolist()) == ("8", [2.0, 4.0])
    live.delete()
    assert wait_until(lambda: infer(url, [[1.0, 2.0]])[0] == 404, within_s=15)


def test_the_next_version_takes_over_without_a_failed_request_and_a_broken_one_changes_nothing(scaler: Any, port: int) -> None:
    class Steps(ModelService):
        def __init__(self, step: int) -> None:
            if step < 0:
                raise ValueError("no such step")
            self.step = step

        def predict(self, x: int) -> int:
            return x + self.step

    first = Steps(1).deploy(progress=lambda line: None)
    assert first.predict(1) == 2
    seen: list[tuple[int, Any]] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(request(f"http://127.0.0.1:{port}/steps/predict", {"x": 1}))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        second = Steps(10).deploy(progress=lambda line: None)
        assert wait_until(lambda: seen[-1][1] == {"result": 11}, within_s=15)
        assert wait_until(lambda: first.predict(1) == 11, within_s=15), "a program that deployed the version before asks the new one"
        assert serve_apps.remote("steps").predict(x=1) == 11
        with pytest.raises(ModelError) as caught:
            Steps(-1).deploy(progress=lambda line: None)
        assert caught.value.code == "constructor_failed" and "no such step" in caught.value.message
        assert wait_until(lambda: [version["version"] for version in shown("steps")["versions"]] == ["3", "2"], within_s=40)
    finally:
        stop.set()
        asking.join(timeout=30)
    assert {status for status, _ in seen} == {200}
    assert [answer["result"] for _, answer in seen] == sorted(answer["result"] for _, answer in seen)
    assert shown("steps")["default"] == "2" and shown("steps")["versions"][0]["state"] == "failed"
    second.delete()


def test_a_model_with_min_0_goes_to_sleep_and_a_request_wakes_it(scaler: Any, port: int) -> None:
    from serve_apps.model_file import deploy_file

    scale = {"metric": "ongoing_requests", "target": 2, "min": 0, "max": 2, "idle_s": 1.0}
    live = deploy_file(vars(scaler)["file"], name="sleeper", autoscale=scale, say=lambda line: None)
    url = f"http://127.0.0.1:{port}/v2/models/sleeper"
    assert wait_until(lambda: num_running("sleeper") == 0, within_s=60)
    assert infer(url, [[1.0, 2.0]])[1]["outputs"][0]["data"] == [2.0, 4.0]
    assert wait_until(lambda: [replica["is_bridge"] for replica in shown("sleeper")["versions"][0]["replicas"]] == [True], within_s=15)
    live.delete()


def test_the_directory_and_the_ingress_come_back_and_requests_go_on(scaler: Any, port: int) -> None:
    from fabric import ray_io

    url = f"{scaler.url}/predict"
    directory = ray_io.actor("models")
    import ray

    ray.kill(directory, no_restart=False)
    assert request(url, {"rows": [[1, 2]]})[0] == 200

    def is_back() -> bool:
        try:
            return num_running("scaler") == 1
        except UnavailableError:
            return False

    assert wait_until(is_back, within_s=40)
    was = ray_io.ask(ray_io.actor("ingress").settings.remote())
    ray.kill(ray_io.actor("ingress"), no_restart=False)

    def answers() -> bool:
        try:
            return ray_io.ask(ray_io.actor("ingress").settings.remote()) == was and request(url, {"rows": [[1, 2]]})[0] == 200
        except (OSError, ValueError, UnavailableError):
            return False

    assert wait_until(answers, within_s=40)


def test_a_constructor_that_raises_surfaces_in_deploy_and_leaves_nothing(scaler: Any) -> None:
    from ray import serve

    with pytest.raises(ModelError) as caught:
        type(scaler)(Path("/nowhere/model.onnx")).deploy(name="broken", progress=lambda line: None)
    assert caught.value.code == "constructor_failed"
    assert "no model at /nowhere/model.onnx" in caught.value.message
    assert "code: model_not_found" in caught.value.message
    assert wait_until(lambda: "broken.v1" not in serve.status().applications, within_s=30)
    assert "scaler.v1" in serve.status().applications


def test_cpu_load_adds_a_replica_and_delete_removes_the_service(scaler: Any) -> None:
    from ray import serve

    class Burner(ModelService):
        def predict(self, seconds: float) -> int:
            until_s = time.process_time() + seconds
            while time.process_time() < until_s:
                pass
            return os.getpid()

    service = Burner().deploy(autoscale={"metric": "cpu_utilization", "target": 70, "min": 1, "max": 2}, progress=lambda line: None)
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
    assert wait_until(lambda: "burner.v1" not in serve.status().applications, within_s=30)
    with pytest.raises(UserError):
        service.predict(seconds=0.0)
