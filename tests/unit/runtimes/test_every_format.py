"""One model in every format: recognised by content, described alike, equal predictions, the same words for bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

from fabric.errors import ModelError
from serve_apps import load_model
from serve_apps.runtimes.formats import BUILT_IN, recognise
from serve_apps.tensors import DTYPES, TensorSpec
from tests.softmax_models import FORMATS, X, expected

SCRIPTED = "TorchScript, scripted"


@pytest.fixture(params=list(FORMATS))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(the model, its path, the platform, the names of its input and output)."""
    write, platform, given, made = FORMATS[request.param]
    path = write(tmp_path_factory.mktemp("model"))
    inputs = [TensorSpec("input", "FP32", (-1, 4))] if request.param == SCRIPTED else []
    with load_model(path, inputs=inputs) as model:
        yield model, path, platform, given, made


def test_each_format_is_recognised_described_and_answers_alike(loaded: Any) -> None:
    model, path, platform, given, made = loaded
    assert sum(known.recognises(path) for known in BUILT_IN) == 1
    assert recognise(path) is not None
    assert model.metadata.platform == platform
    assert [spec.name for spec in model.inputs] == [given]
    assert model.inputs[0].shape == (-1, 4)
    assert made in [spec.name for spec in model.outputs]
    assert model.metadata.max_batch_size > 0
    for rows in (5, 1, 3):
        strict = model.run({given: X[:rows].astype(DTYPES[model.inputs[0].datatype])})
        numpy.testing.assert_allclose(strict[made], expected(X[:rows]), rtol=1e-4, atol=1e-6)
        numpy.testing.assert_allclose(model.infer(X[:rows].tolist())[made], expected(X[:rows]), rtol=1e-4, atol=1e-6)
    declared = {spec.name: spec for spec in model.outputs}
    for name, array in strict.items():
        assert array.dtype == DTYPES[declared[name].datatype]
        assert declared[name].takes(array.shape)


def test_each_format_refuses_bad_input_in_the_same_words(loaded: Any) -> None:
    model, _, _, given, _ = loaded
    right = X.astype(DTYPES[model.inputs[0].datatype])
    for call, code in (
        (lambda: model.run({}), "missing_input"),
        (lambda: model.run({given: right, "other": X}), "unknown_input"),
        (lambda: model.run({given: right.astype(numpy.int8)}), "wrong_dtype"),
        (lambda: model.run({given: right[:, :3]}), "wrong_shape"),
        (lambda: model.infer(["a", "b", "c", "d"]), "wrong_dtype"),
        (lambda: model.infer([1.0, 2.0]), "wrong_shape"),
    ):
        with pytest.raises(ModelError) as caught:
            call()
        assert caught.value.code == code


def test_each_format_says_so_when_it_is_closed(loaded: Any) -> None:
    model, _, _, _, _ = loaded
    model.close()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.infer(X)


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_precision_that_a_format_cannot_have_is_refused(name: str, tmp_path: Path) -> None:
    path = FORMATS[name][0](tmp_path)
    if "orch" in name:
        pytest.skip("torch can")
    with pytest.raises(ModelError) as caught:
        load_model(path, precision="bf16")
    assert caught.value.code == "unsupported_precision"


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_file_that_was_cut_off_is_an_error_and_no_crash(name: str, tmp_path: Path) -> None:
    path = FORMATS[name][0](tmp_path)
    file = path / "saved_model.pb" if path.is_dir() else path
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert caught.value.code in ("model_unreadable", "unknown_model_format")
