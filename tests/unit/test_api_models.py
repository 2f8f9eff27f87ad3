"""The pages of served models: who may see, who may end, and what is told where nothing is served."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fabric.api.app import create_app
from fabric.errors import UnknownNameError
from fabric.model_form import render_model, render_models
from serve_apps.directory.core import Directory
from serve_apps.directory.form import model_form
from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.table import ReplicaId
from serve_apps.tensors import ModelMetadata, TensorSpec
from tests.api_world import World
from tests.asgi_transport import AsgiTransport

METADATA = ModelMetadata("resnet", ("1",), "onnx_onnxv1", (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 10)),))


class Models:
    """The directory's core, without its actor."""

    def __init__(self) -> None:
        self.core = Directory()
        self.asked: list[tuple[Any, ...]] = []

    def listed(self) -> list[dict[str, Any]]:
        return [self.shown(name) for name in self.core.table().models]

    def shown(self, name: str) -> dict[str, Any]:
        records = self.core.records(name)
        reports = {record.version: self.core.reports(name, record.version) for record in records}
        return model_form(self.core.table().models[name], records, reports, {})

    def delete(self, name: str) -> None:
        self.core.delete(name)

    def logs(self, name: str, version: str, max_lines: int) -> str:
        self.core.record(name, version)
        return f"{max_lines} lines\n"

    def rollouts(self, name: str = "") -> list[dict[str, Any]]:
        return [{"model": name or "resnet", "asked": self.asked}]

    def start_rollout(self, name: str, to: str, tier: str | None, spec: Mapping[str, Any], user: str) -> dict[str, Any]:
        self.asked.append(("start", name, to, tier, dict(spec), user))
        return {"model": name}

    def order_rollout(self, name: str, order: str, user: str) -> dict[str, Any]:
        self.asked.append((order, name, user))
        return {"model": name}

    def roll_back(self, name: str, to: str, user: str) -> dict[str, Any]:
        self.asked.append(("rollback", name, to, user))
        return {"model": name}

    def experiments(self, name: str = "") -> list[dict[str, Any]]:
        return [{"model": name or "resnet"}]

    def start_experiment(self, name: str, arms: Mapping[str, float], metric: str, fields: Mapping[str, Any], user: str) -> dict[str, Any]:
        self.asked.append(("experiment", name, dict(arms), metric, dict(fields), user))
        return {"model": name}

    def stop_experiment(self, name: str, user: str) -> dict[str, Any]:
        self.asked.append(("stop", name, user))
        return {"model": name}


@pytest.fixture
def models() -> Models:
    made = Models()
    settings = {"replicas": 2, "num_cpus": 0.1, "autoscale": {"metric": "cpu_utilization", "target": 70.0, "min": 1, "max": 4}}
    made.core.begin("resnet", "ann", settings, "d" * 64, 0.0)
    made.core.placed("resnet", "1", {"tier": "cold", "flavor": "cpu", "is_twin": True, "why": "cpu (cold): Cheapest"})
    report = ReplicaReport(ReplicaId("r1"), "resnet", "1", "127.0.0.1", 4000, METADATA, flavor="cpu", stats={"latency_p95_ms": 12.0})
    made.core.beat(report, 0.0)
    made.core.activate("resnet", "1")
    made.core.fail("resnet", made.core.begin("resnet", "ann", settings, "e" * 64, 0.0).version, "no such file")
    return made


@pytest.fixture
def world(models: Models, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.transport.close()
    made.transport = AsgiTransport(create_app(made.plane, made.tokens, models=models))
    yield made
    made.close()


def told(world: World, user: str, path: str) -> Any:
    return json.loads(world.ask(user, "GET", path).body)


def test_everyone_with_a_token_sees_which_models_there_are(world: World) -> None:
    (model,) = told(world, "bob", "/v1/models")["models"]
    assert (model["name"], model["default"]) == ("resnet", "1")
    assert [(version["version"], version["state"], version["why"]) for version in model["versions"]] == [
        ("2", "failed", "no such file"),
        ("1", "ready", ""),
    ]
    assert told(world, "bob", "/v1/models/resnet") == model
    assert world.ask(None, "GET", "/v1/models").status == 401


def test_its_user_and_who_operates_may_end_it_and_read_its_log(world: World, models: Models) -> None:
    assert world.ask("bob", "DELETE", "/v1/models/resnet").status == 403
    assert world.ask("bob", "GET", "/v1/models/resnet/logs").status == 403
    assert told(world, "ann", "/v1/models/resnet/logs?lines=5")["text"] == "5 lines\n"
    assert world.ask("ops", "GET", "/v1/models/resnet/logs?version=9").status == 404
    assert world.ask("ops", "DELETE", "/v1/models/resnet").status == 200
    assert models.listed() == []


def post(world: World, user: str, path: str, body: Any) -> Any:
    return world.ask(user, "POST", path, json.dumps(body).encode())


def test_rollouts_and_experiments_are_asked_for_in_one_form_by_who_owns_the_model(world: World, models: Models) -> None:
    start = {"model": "resnet", "to": "2", "spec": {"steps": [1, 100]}}
    assert post(world, "bob", "/v1/rollouts", start).status == 403
    assert post(world, "ann", "/v1/rollouts", start).status == 201
    for order in ("pause", "resume", "promote", "abort"):
        assert post(world, "bob", f"/v1/rollouts/resnet/{order}", {}).status == 403
        assert post(world, "ops", f"/v1/rollouts/resnet/{order}", {}).status == 200
    assert post(world, "ann", "/v1/rollouts/resnet/rollback", {"to": "1"}).status == 200
    arms = {"model": "resnet", "arms": {"1": 50, "2": 50}, "metric": "clicks"}
    assert post(world, "ann", "/v1/experiments", arms).status == 201
    assert post(world, "ann", "/v1/experiments/resnet/stop", {}).status == 200
    assert [one[0] for one in models.asked] == ["start", "pause", "resume", "promote", "abort", "rollback", "experiment", "stop"]
    assert models.asked[0] == ("start", "resnet", "2", None, {"steps": [1, 100]}, "ann")
    assert told(world, "bob", "/v1/rollouts")["rollouts"][0]["model"] == "resnet"
    assert told(world, "bob", "/v1/experiments/resnet") == {"model": "resnet"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/rollouts", {"model": "resnet", "too": "2"}, 400),
        ("/v1/rollouts", {"to": "2"}, 400),
        ("/v1/rollouts", {"model": "resnett"}, 404),
        ("/v1/rollouts/resnet/stop", {}, 400),
        ("/v1/experiments", {"model": "resnet", "arms": {"1": "half"}, "metric": "clicks"}, 400),
        ("/v1/experiments", {"model": "resnet", "arms": {"1": 50}, "metric": ""}, 400),
    ],
)
def test_what_is_asked_for_wrongly_reaches_nobody(world: World, models: Models, path: str, body: Any, status: int) -> None:
    answer = post(world, "ann", path, body)
    assert answer.status == status, answer.body
    assert models.asked == [] and json.loads(answer.body)["code"]


def test_an_unknown_model_is_named_with_the_nearest(world: World) -> None:
    answer = world.ask("ann", "GET", "/v1/models/resnett")
    body = json.loads(answer.body)
    assert answer.status == 404 and body["code"] == "unknown_model" and "resnet" in body["hint"]
    with pytest.raises(UnknownNameError):
        Models().shown("resnet")


def test_the_tables_fit_a_terminal_and_say_what_matters(models: Models) -> None:
    listed = render_models({"models": models.listed()})
    assert all(word in listed for word in ("resnet", "ready", "onnx_onnxv1", "cold/cpu (twin)", "1 of 1 to 4", "12 ms"))
    shown = render_model(models.shown("resnet"), now_s=60.0)
    for line in ("version 1 answers", "x: FP32[?, 3]", "y: FP32[?, 10]", "(failed: no such file)", "by cpu_utilization to 70", "Cheapest"):
        assert line in shown, line
    assert max(map(len, listed.splitlines())) <= 160
    split = render_model({**models.shown("resnet"), "split": {"1": 9_500, "2": 500}, "aliases": {"champion": "1"}}, now_s=60.0)
    assert "version 1 answers 95 %, version 2 answers 5 %" in split and "champion (1)" in split
    assert "no models are served" in render_models({"models": []})
