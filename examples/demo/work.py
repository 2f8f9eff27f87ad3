"""The demo's tasks and its served model: an image classifier and a text classifier in ONNX Runtime, on any tier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fabric
from serve_apps import ModelService, load_model

_sessions: dict[int, Any] = {}


def session(model: bytes) -> Any:
    """One ONNX Runtime session per model and worker process."""
    key = hash(model)
    if key not in _sessions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        _sessions[key] = onnxruntime.InferenceSession(model, options, providers=onnxruntime.get_available_providers())
    return _sessions[key]


@fabric.task(domain="cv", phase="inference")
def classify_images(batch: tuple[NDArray[np.float32], Any]) -> NDArray[np.int64]:
    """(image: float32[batch, pixels], reference to the model's bytes) -> the label's position: int64[batch]."""
    import ray

    images, model = batch
    return np.asarray(session(ray.get(model)).run(["label"], {"image": images})[0])


@fabric.task(domain="nlp", phase="inference")
def classify_texts(batch: tuple[list[str], Any]) -> NDArray[np.int64]:
    """(texts, reference to the model's bytes) -> the label's position: int64[batch]."""
    import ray

    texts, model = batch
    column = np.array(texts, dtype=object).reshape(-1, 1)
    return np.asarray(session(ray.get(model)).run(["label"], {"text": column})[0])


# The same code runs on accelerators: ONNX Runtime takes whatever provider the worker has.
for task in (classify_images, classify_texts):
    task.variant(flavor="gpu", num_gpus=1)(task)
    task.variant(flavor="npu")(task)


class TextClassifier(ModelService):
    """The text model behind HTTP: `{"input_text": …}` -> the label's name."""

    def __init__(self, model_path: str, labels: list[str]) -> None:
        self.model = load_model(model_path)
        self.labels = labels

    def predict(self, input_text: str) -> dict[str, str]:
        answer = self.model.infer({"text": np.array([[input_text]], dtype=object)})
        return {"label": self.labels[int(answer["label"][0])]}
