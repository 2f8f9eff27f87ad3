"""One small model, softmax(x W + b), written by each framework that is installed."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

W = numpy.linspace(-1, 1, 12, dtype=numpy.float32).reshape(4, 3)
B = numpy.array([0.1, -0.2, 0.3], numpy.float32)
X = numpy.random.default_rng(0).standard_normal((5, 4)).astype(numpy.float32)

Write = Callable[[Path], Path]


def expected(x: Any = X) -> Any:
    powers = numpy.exp(x @ W + B)
    return powers / powers.sum(-1, keepdims=True)


def _library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


def write_onnx(folder: Path) -> Path:
    onnx = _library("onnx")
    helper = onnx.helper
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=-1)]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 4), ("y", 3))]
    weights = [onnx.numpy_helper.from_array(W, "w"), onnx.numpy_helper.from_array(B, "b")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model")
    return folder / "model"


def torch_module(torch: Any) -> Any:
    linear = torch.nn.Linear(4, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(W.T.copy()))
        linear.bias.copy_(torch.from_numpy(B))
    return torch.nn.Sequential(linear, torch.nn.Softmax(-1)).eval()


def write_traced(folder: Path) -> Path:
    torch = _library("torch")
    torch.jit.trace(torch_module(torch), torch.zeros(2, 4)).save(str(folder / "model"))
    return folder / "model"


def write_scripted(folder: Path) -> Path:
    torch = _library("torch")
    torch.jit.script(torch_module(torch)).save(str(folder / "model"))
    return folder / "model"


def write_exported(folder: Path) -> Path:
    torch = _library("torch")
    rows = torch.export.Dim("batch")
    program = torch.export.export(torch_module(torch), (torch.zeros(2, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(program, folder / "model.pt2")
    return (folder / "model.pt2").rename(folder / "model")


def write_saved_model(folder: Path) -> Path:
    tensorflow = _library("tensorflow")
    module = tensorflow.Module()
    module.w, module.b = tensorflow.Variable(W), tensorflow.Variable(B)
    spec = tensorflow.TensorSpec([None, 4], tensorflow.float32, "x")
    call = tensorflow.function(lambda x: {"y": tensorflow.nn.softmax(x @ module.w + module.b)}, input_signature=[spec])
    tensorflow.saved_model.save(module, str(folder / "model"), signatures={"serving_default": call})
    return folder / "model"


def write_tflite(folder: Path) -> Path:
    """Recorded: only TensorFlow writes such a file. Made of what `write_saved_model` writes, by `tf.lite.TFLiteConverter`."""
    _library("ai_edge_litert")
    return Path(shutil.copy(Path(__file__).parent / "unit" / "runtimes" / "recorded" / "softmax.tflite", folder / "model"))


def write_mindir(folder: Path) -> Path:
    mindspore = _library("mindspore")
    dense = mindspore.nn.Dense(4, 3, mindspore.Tensor(W.T.copy()), mindspore.Tensor(B))
    net = mindspore.nn.SequentialCell(dense, mindspore.nn.Softmax(-1))
    mindspore.export(net, mindspore.Tensor(shape=[None, 4], dtype=mindspore.float32), file_name=str(folder / "m"), file_format="MINDIR")
    return (folder / "m.mindir").rename(folder / "model")


def classifier(labels: Any = (0, 1, 2)) -> Any:
    """A logistic regression with these weights."""
    linear_model = _library("sklearn.linear_model")
    model = linear_model.LogisticRegression()
    model.coef_, model.intercept_, model.classes_, model.n_features_in_ = W.T.astype(float), B.astype(float), numpy.array(labels), 4
    return model


def write_pickle(folder: Path) -> Path:
    (folder / "model").write_bytes(pickle.dumps(classifier()))
    return folder / "model"


def write_joblib(folder: Path) -> Path:
    _library("joblib").dump(classifier(), folder / "model", compress=3)
    return folder / "model"


FORMATS: dict[str, tuple[Write, str, str, str]] = {
    "ONNX": (write_onnx, "onnx_onnxv1", "x", "y"),
    "TorchScript, traced": (write_traced, "pytorch_torchscript", "input", "output_0"),
    "TorchScript, scripted": (write_scripted, "pytorch_torchscript", "input", "output_0"),
    "torch.export": (write_exported, "pytorch_export", "input", "output_0"),
    "SavedModel": (write_saved_model, "tensorflow_savedmodel", "x", "y"),
    "TensorFlow Lite": (write_tflite, "tensorflow_lite", "x", "y"),
    "MINDIR": (write_mindir, "mindspore_mindir", "input_data", "output_0"),
    "scikit-learn, pickle": (write_pickle, "sklearn_pickle", "x", "predict_proba"),
    "scikit-learn, joblib": (write_joblib, "sklearn_pickle", "x", "predict_proba"),
}
"""Format -> (what writes it, its platform, the names of its input and of its output)."""
