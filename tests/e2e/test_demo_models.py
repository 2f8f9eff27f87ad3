"""The demo's models: trained on the real data, exported, and served by ONNX Runtime as exactly as scikit-learn computes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skl2onnx")

import onnxruntime
from PIL import Image

from examples.demo import models, texts
from examples.demo.images import LabelledData, load_images
from examples.demo.texts import load_texts
from fabric.errors import UserError


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scikit-learn pipelines, caught on their way into the export."""
    caught: list[Any] = []
    export = models._export

    def catch(model: Any, *rest: Any) -> None:
        caught.append(model)
        export(model, *rest)

    monkeypatch.setattr(models, "_export", catch)
    return caught


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_digits_are_told_apart_and_onnx_agrees_with_sklearn(tmp_path: Path, fitted: list[Any]) -> None:
    data = load_images()
    assert (len(data.y), len(data.labels)) == (1797, 10)
    models.train_image_classifier(data, tmp_path / "image.onnx")
    inputs = models.model_inputs(data, data.test)
    label, probabilities = _session(tmp_path / "image.onnx").run(["label", "probabilities"], inputs)
    assert models.accuracy(label, data, data.test) >= 0.95
    assert np.mean(label == fitted[0].predict(inputs["image"])) > 0.99
    assert np.allclose(probabilities, fitted[0].predict_proba(inputs["image"]), atol=1e-4)


def test_docstrings_are_told_apart_and_onnx_agrees_with_sklearn(tmp_path: Path, fitted: list[Any]) -> None:
    data = load_texts()
    assert len(data.items) >= 2000
    assert not any(texts.mask_names(text) != text for text in data.items)
    models.train_text_classifier(data, tmp_path / "text.onnx")
    inputs = models.model_inputs(data, data.test)
    session = _session(tmp_path / "text.onnx")
    label, probabilities = session.run(["label", "probabilities"], inputs)
    assert models.accuracy(label, data, data.test) >= 0.75
    assert np.mean(label == fitted[0].predict(inputs["text"].ravel())) > 0.99
    assert np.allclose(probabilities, fitted[0].predict_proba(inputs["text"].ravel()), atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map[models.LABELS_KEY]) == list(data.labels)


def test_texts_unlike_the_training_data_are_read_as_sklearn_reads_them(tmp_path: Path, fitted: list[Any]) -> None:
    data = _tiny_texts(tmp_path)
    models.train_text_classifier(data, tmp_path / "text.onnx")
    odd = np.array(["", "RAIN rain Rain", "Größe café", "don't\n\tsun2sun", "日本語", "_rain__sun HTTPServer"], dtype=object)
    probabilities = _session(tmp_path / "text.onnx").run(["probabilities"], {"text": odd.reshape(-1, 1)})[0]
    assert np.allclose(probabilities, fitted[0].predict_proba(odd), atol=1e-5)


def test_the_same_data_give_the_same_file_byte_by_byte(tmp_path: Path) -> None:
    data = _tiny_texts(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        models.train_text_classifier(data, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_small_folder_of_two_labels_is_enough_for_an_image_model(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for label, low in (("dark", 0), ("light", 150)):
        (tmp_path / label).mkdir()
        for i in range(8):
            Image.fromarray(draw.integers(low, low + 100, (20, 30), dtype=np.uint8)).save(tmp_path / label / f"{i}.png")
    data = load_images(tmp_path)
    models.train_image_classifier(data, tmp_path / "image.onnx")
    label, probabilities = _session(tmp_path / "image.onnx").run(["label", "probabilities"], models.model_inputs(data, data.test))
    assert models.accuracy(label, data, data.test) == 1.0
    assert probabilities.shape == (4, 2)


def test_the_wrong_kind_of_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds texts"):
        models.train_image_classifier(_tiny_texts(tmp_path), tmp_path / "x.onnx")
    with pytest.raises(UserError, match="holds images"):
        models.train_text_classifier(load_images(), tmp_path / "x.onnx")


def test_texts_without_a_word_are_an_error(tmp_path: Path) -> None:
    data = _tiny_texts(tmp_path)
    wordless = LabelledData(["!?"] * len(data.y), data.labels, data.y, data.train, data.test, "punctuation")
    with pytest.raises(UserError, match="no text holds a word"):
        models.train_text_classifier(wordless, tmp_path / "x.onnx")


def _tiny_texts(tmp_path: Path) -> LabelledData:
    for label in ("rain", "sun"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "texts" / label / f"{i}.txt").write_text(f"A day of {label} and more {label}, day {i}")
    return load_texts(tmp_path / "texts")
