"""Two small classifiers, trained on the spot and exported to ONNX with their preprocessing inside.

Both graphs answer `label` (int64[batch], positions in the data's labels) and `probabilities` (float32[batch, labels]), and carry
the labels' names as JSON under the metadata key `labels`. Seeds and thread counts are fixed, so the same data on the same
machine gives the same weights.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from examples.demo.images import Indices, LabelledData
from fabric.errors import UserError

NUM_THREADS = 1
"""Threads of linear algebra in training: more would spin against the other processes of a busy machine and end up slower."""

SEED = 0
LABELS_KEY = "labels"
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3, "com.microsoft": 1}

HIDDEN_UNITS = (2048, 2048)
"""Wider than the digits need: one batch of 32 is then 275 million operations, real work for a scheduler to place."""

IMAGES_PER_FIT, MAX_PASSES = 5_400, 50
"""Images seen in training, all passes together (four passes over the digits): a bounded time for a folder of any size."""

MAX_WORDS = 30_000
"""The vocabulary's bound; the docstrings hold about 9,000 words."""

TOKEN = r"[A-Za-z][a-z]+|[A-Z]+|[0-9]+"
"""Splits CamelCase and drops punctuation. Plain ASCII classes and no look-around: Python and ONNX Runtime (RE2) read it alike."""


def train_image_classifier(data: LabelledData, path: Path) -> None:
    """Fits on the train part and writes ONNX: `image: float32[batch, h*w]`, the images as loaded, row by row.

    Of more than IMAGES_PER_FIT images every second, third, … is learnt, so that each label keeps its share.

    Raises:
        UserError: the data are texts.
    """
    learnt = data.train[:: -(-len(data.train) // IMAGES_PER_FIT)]
    pixels = model_inputs(data, learnt).get("image")
    if pixels is None:
        raise UserError(f"{data.source} holds texts; train_image_classifier needs images")
    num_passes = min(MAX_PASSES, max(1, round(IMAGES_PER_FIT / len(pixels))))
    network = MLPClassifier(HIDDEN_UNITS, batch_size=min(128, len(pixels)), max_iter=num_passes, random_state=SEED)
    model = Pipeline([("scale", StandardScaler()), ("network", network)])
    with threadpool_limits(NUM_THREADS), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of passes is bounded on purpose
        model.fit(pixels, data.y[learnt])
    _export(model, data, ("image", FloatTensorType([None, pixels.shape[1]])), path)


def train_text_classifier(data: LabelledData, path: Path) -> None:
    """Fits TF-IDF and a logistic regression on the train part and writes ONNX: `text: string[batch, 1]`.

    Case is kept, because lowering it in ONNX Runtime needs a locale that small container images lack; term counts enter as they
    are, because skl2onnx converts `sublinear_tf` wrongly for words that occur twice.

    Raises:
        UserError: the data are images, or no text holds a word.
    """
    texts = model_inputs(data, data.train).get("text")
    if texts is None:
        raise UserError(f"{data.source} holds images; train_text_classifier needs texts")
    model = Pipeline(
        [
            ("tfidf", TfidfVectorizer(lowercase=False, token_pattern=TOKEN, max_features=MAX_WORDS, dtype=np.float32)),
            ("linear", LogisticRegression(C=10.0, class_weight="balanced", max_iter=200, random_state=SEED)),
        ]
    )
    with threadpool_limits(NUM_THREADS):
        try:
            model.fit(texts.ravel(), data.y[data.train])
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            raise UserError(f"{data.source}: no text holds a word", hint="words of the Latin alphabet and numbers are read") from error
    _export(model, data, ("text", StringTensorType([None, 1])), path)


def model_inputs(data: LabelledData, indices: Indices) -> dict[str, NDArray[np.float32] | NDArray[np.object_]]:
    """What the model of such data takes: `image: float32[n, h*w]` or `text: object[n, 1]` for the items at `indices`."""
    if isinstance(data.items, np.ndarray):
        return {"image": data.items[indices].reshape(len(indices), -1)}
    return {"text": np.array([data.items[i] for i in indices], dtype=object).reshape(-1, 1)}


def accuracy(predicted: Indices, data: LabelledData, indices: Indices) -> float:
    """The fraction of `indices` whose predicted label (positions in `data.labels`, same order) is the true one; NaN for none."""
    return float(np.mean(np.asarray(predicted) == data.y[indices])) if len(indices) else float("nan")


def _export(model: Pipeline, data: LabelledData, model_input: tuple[str, object], path: Path) -> None:
    name = f"{model_input[0]}-classifier"  # skl2onnx would draw a random one, and equal models would differ
    options = {id(model): {"zipmap": False}}
    exported = convert_sklearn(model, name, initial_types=[model_input], options=options, target_opset=TARGET_OPSET)
    del exported.metadata_props[:]
    exported.metadata_props.add(key=LABELS_KEY, value=json.dumps(data.labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(exported.SerializeToString())
