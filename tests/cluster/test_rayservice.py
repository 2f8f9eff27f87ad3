"""The application of the RayService manifest: Serve takes its configuration, and it answers with a model file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema
from starlette.requests import Request

from tests.softmax_models import X, expected, write_onnx

HERE = Path(__file__).parents[2] / "cluster_configs" / "kuberay" / "service"


def configuration() -> dict[str, Any]:
    manifest = yaml.safe_load((HERE / "rayservice.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    return found


def test_the_configuration_of_the_manifest_is_one_that_serve_takes() -> None:
    (application,) = ServeDeploySchema(**configuration()).applications
    assert application.import_path == "app:app"
    (deployment,) = application.deployments
    options = deployment.ray_actor_options.dict(exclude_unset=True)
    assert (options["label_selector"], options["fallback_strategy"]) == ({"tier": "warm"}, [{"label_selector": {"tier": "cold"}}])
    # The schema takes these as they are; Serve reads them when it deploys.
    AutoscalingConfig(**configuration()["applications"][0]["deployments"][0]["autoscaling_config"])
    wrong = configuration()
    wrong["applications"][0]["import_path"] = "app"
    with pytest.raises(ValueError, match="import_path"):
        ServeDeploySchema(**wrong)


def test_the_application_answers_with_a_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_FILE", str(write_onnx(tmp_path)))
    spec = importlib.util.spec_from_file_location("app", HERE / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def body() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"inputs": {"x": X.tolist()}}).encode(), "more_body": False}

    handle = serve.run(module.app, name="model", _local_testing_mode=True)
    answer = handle.remote(Request({"type": "http", "method": "POST", "headers": []}, body)).result()
    numpy.testing.assert_allclose(answer["outputs"]["y"], expected(), rtol=1e-5)
