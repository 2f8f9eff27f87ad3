"""Triton's repositories and MLflow's registries: every version comes over once, and goes back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fabric.errors import UnknownNameError, UserError
from serve_apps.registry.client import ModelRegistry
from serve_apps.registry.elsewhere import Place, kept_name, parse_place, take_in
from serve_apps.registry.mlflow_models import export_to_mlflow, mlflow_models, mlmodel_of
from serve_apps.registry.triton import read_config, signature_of, triton_models
from tests.softmax_models import write_onnx

Client = Callable[..., ModelRegistry]
CONFIG = """
name: "ResNet_50"   # as Triton calls it
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] format: FORMAT_NONE },
        { name: "words", data_type: TYPE_STRING, dims: -1, optional: true } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
version_policy: { specific { versions: [ 3 ] } }
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two versions of a model in ONNX, one of them split into a folder, one version of something else, and an ensemble."""
    root = tmp_path / "repository"
    for version in ("1", "3", "notes"):
        (root / "resnet" / version).mkdir(parents=True)
    made = write_onnx(tmp_path)
    (root / "resnet" / "config.pbtxt").write_text(CONFIG)
    shutil.copy(made, root / "resnet" / "1" / "model.onnx")
    (root / "resnet" / "3" / "model.onnx").mkdir()
    shutil.copy(made, root / "resnet" / "3" / "model.onnx" / "model.onnx")
    (root / "trt" / "1").mkdir(parents=True)
    (root / "trt" / "1" / "model.plan").write_bytes(b"ptrt")
    (root / "no-model").mkdir()
    return root


def test_every_version_of_a_triton_repository_is_registered_once(client: Client, repository: Path) -> None:
    told: list[str] = []
    place = parse_place(f"triton:{repository}")
    made = list(take_in(client(), triton_models(place, told.append), say=told.append))
    assert [version.ref for version in made] == ["resnet-50:1", "resnet-50:2"]
    assert [version.metadata["triton.version"] for version in made] == ["1", "3"]
    assert [version.main for version in made] == ["model.onnx", "model.onnx"]
    assert str(made[0].signature) == "x: FP32[?, 4] -> y: FP32[?, 3]"
    assert any("instance_group, version_policy" in line for line in told) and any("trt" in line and "left out" in line for line in told)
    again = list(take_in(client(), triton_models(place, told.append), say=told.append))
    assert [version.ref for version in again] == ["resnet-50:1", "resnet-50:2"] and client().model("resnet-50").last_number == 2


def test_one_model_folder_is_a_repository_too_and_one_version_can_be_named(client: Client, repository: Path) -> None:
    (made,) = take_in(client(), triton_models(parse_place(f"triton:{repository / 'resnet'}#resnet:3"), print), say=print, name="mine")
    assert made.ref == "mine:1" and made.metadata["triton.version"] == "3"
    with pytest.raises(UserError):
        list(triton_models(Place("triton", str(repository), "nobody"), print))


def test_a_triton_configuration_says_what_a_model_takes() -> None:
    config, left = read_config(CONFIG)
    assert str(signature_of(config)) == "x: FP32[?, 4], words: BYTES[?, ?] -> y: FP32[?, 3]"
    assert [spec.is_optional for spec in signature_of(config).inputs] == [False, True]
    assert left == ("instance_group", "version_policy")
    with pytest.raises(UserError) as raised:
        read_config("name: [")
    assert raised.value.code == "bad_triton_config"


def test_places_are_read_as_people_write_them() -> None:
    assert parse_place("mlflow:http://host:5000#resnet:champion") == Place("mlflow", "http://host:5000", "resnet", "champion")
    assert parse_place("mlflow:sqlite:////tmp/ml.db") == Place("mlflow", "sqlite:////tmp/ml.db")
    assert kept_name("ResNet_50 v2") == "resnet-50-v2" and kept_name("___") == "model"


def test_an_export_is_described_in_mlflows_own_form(client: Client, tmp_path: Path) -> None:
    made = client().register(write_onnx(tmp_path), name="resnet")
    document = mlmodel_of(made)
    assert document["flavors"]["onnx"] == {"data": "model"}
    assert yaml.safe_load(document["signature"]["inputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}, "name": "x"}
    ]


def test_a_version_goes_to_mlflow_and_comes_back_with_all_that_was_said_of_it(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed (the extra mlflow)")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    here = client()
    for accuracy in (0.9, 0.95):
        here.register(write_onnx(tmp_path), name="resnet", metadata={"task": "cv"}, metrics={"accuracy": accuracy})
    here.set_aliases("resnet", {"champion": 2})
    there = Place("mlflow", f"file://{tmp_path}/mlruns")
    assert [export_to_mlflow(here, ref, there) for ref in ("resnet:1", "resnet:champion")] == ["resnet:1", "resnet:2"]

    from mlflow.models import Model
    from mlflow.tracking import MlflowClient

    theirs = MlflowClient(tracking_uri=there.address, registry_uri=there.address)
    uri = theirs.get_model_version_download_uri("resnet", "2")
    assert Model.load(uri.removeprefix("file://")).signature.inputs.input_names() == ["x"]
    assert theirs.get_run(theirs.get_model_version("resnet", "2").run_id).data.metrics == {"accuracy": 0.95}

    made = list(take_in(here, mlflow_models(there, print), say=print, name="back"))
    assert [version.ref for version in made] == ["back:1", "back:2"]
    back = here.find("back:champion")
    assert (back.number, back.metrics, back.metadata["task"], back.metadata["mlflow.version"]) == (2, {"accuracy": 0.95}, "cv", "resnet:2")
    assert back.signature == here.find("resnet:2").signature and back.digest == here.find("resnet:2").digest
    assert [version.number for version in take_in(here, mlflow_models(there, print), say=print, name="back")] == [1, 2]
    with pytest.raises(UnknownNameError):
        list(mlflow_models(there._replace(name="resnet", word="9"), print))
    with pytest.raises(UnknownNameError):
        list(mlflow_models(there._replace(name="nobody"), print))
