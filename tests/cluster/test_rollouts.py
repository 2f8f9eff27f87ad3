"""Rollouts on a real Serve: a good version gets everything, a bad one is taken back, and no request is lost meanwhile."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from fabric.errors import ModelError, RejectedError
from serve_apps import Canary, ModelService
from tests.cluster.test_serving import free_port, shown, wait_until

FAST = Canary(steps=[20, 100], soak=3.0, min_samples=20, guards=["error_rate<=+5%"])


class Answers(ModelService):
    """`what`: what it says, or how it fails."""

    def __init__(self, what: str) -> None:
        if what == "nothing":
            raise RuntimeError("its weights are gone")
        self.what = what

    def predict(self, input_text: str) -> str:
        if self.what == "errors":
            raise RuntimeError("planted")
        return self.what


class Load(threading.Thread):
    """Requests one after the other until it is ended; statuses and versions counted."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.over, self.seen = url, threading.Event(), Counter[str]()

    def run(self) -> None:
        body = json.dumps({"inputs": [{"name": "input_text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}).encode()
        while not self.over.wait(0.005):
            try:
                with urllib.request.urlopen(urllib.request.Request(self.url, data=body), timeout=30) as answer:
                    self.seen[json.loads(answer.read())["model_version"]] += 1
            except urllib.error.HTTPError as error:
                self.seen[f"status {error.code}"] += 1
            except OSError as error:
                self.seen[f"lost: {error}"] += 1

    def end(self) -> Counter[str]:
        self.over.set()
        self.join(30)
        return self.seen


def directory(method: str, *given: Any) -> Any:
    from fabric import ray_io

    return ray_io.ask(getattr(ray_io.actor("models"), method).remote(*given))


def state() -> str:
    return str(directory("rollouts", "answers")[0]["state"])


@pytest.fixture(scope="module")
def url(twin: Any) -> Iterator[str]:
    from ray import serve

    from fabric import ray_io

    port = free_port()
    Answers("one").deploy(replicas=1, port=port, host="127.0.0.1")
    yield f"http://127.0.0.1:{port}/v2/models/answers/infer"
    for name in ("models", "ingress"):
        ray_io.end_actor(name)
    serve.shutdown()


def test_a_good_version_proves_itself_and_no_request_is_lost(url: str) -> None:
    load = Load(url)
    load.start()
    Answers("two").deploy(rollout=FAST)
    with pytest.raises(RejectedError) as caught:
        Answers("three").deploy()
    assert caught.value.code == "rollout_running"
    assert wait_until(lambda: state() == "promoted", 60.0), directory("rollouts", "answers")
    assert wait_until(lambda: [version["version"] for version in shown("answers")["versions"]] == ["2"], 30.0)
    seen = load.end()
    assert set(seen) == {"1", "2"} and min(seen.values()) > 20, seen


def test_a_bad_version_is_taken_back_and_says_why(url: str) -> None:
    load = Load(url)
    load.start()
    Answers("errors").deploy(rollout=FAST)
    assert wait_until(lambda: state() == "rolled_back", 60.0), directory("rollouts", "answers")
    end_s = time.monotonic()
    seen = load.end()
    assert shown("answers")["default"] == "2" and set(seen) == {"2", "status 500"}, (seen, end_s)
    failed = next(version for version in shown("answers")["versions"] if version["version"] == "3")
    assert failed["state"] == "failed" and "error_rate" in failed["why"]


def test_a_version_that_cannot_start_leaves_traffic_where_it_was(url: str) -> None:
    with pytest.raises(ModelError, match="its weights are gone"):
        Answers("nothing").deploy(rollout=FAST)
    assert wait_until(lambda: state() == "failed", 30.0)
    assert shown("answers")["default"] == "2"


def test_the_version_before_comes_back_in_one_command(url: str) -> None:
    assert directory("roll_back", "answers", "", "ann") == {"model": "answers", "version": "1", "state": "starting"}
    assert wait_until(lambda: shown("answers")["default"] == "1.1", 60.0), shown("answers")
    load = Load(url)
    load.start()
    time.sleep(0.5)
    assert set(load.end()) == {"1"}
