"""The ONNX model of one million parameters, and what it takes by itself: three dense layers, one thread."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTHS = (64, 960, 960, 16)
"""998,400 weights and 1,936 biases."""


def write(path: Path) -> Path:
    """Write the model with input `x: float32[batch, 64]` and output `y: float32[batch, 16]`."""
    rng = numpy.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        matrix = (rng.standard_normal((fan_in, fan_out)) / fan_in**0.5).astype(numpy.float32)
        weights += [numpy_helper.from_array(matrix, f"w{i}"), numpy_helper.from_array(numpy.zeros(fan_out, numpy.float32), f"b{i}")]
        is_last = i == len(WIDTHS) - 2
        out = "y" if is_last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [out if is_last else f"g{i}"]))
        if not is_last:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [out]))
        last = out
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTHS[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTHS[-1]])
    graph = helper.make_graph(nodes, "dense", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Bare:
    """The model without any server."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, x: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        return self._session.run(None, {"x": x})[0]  # type: ignore[no-any-return]

    def ms(self, x: numpy.ndarray[Any, Any], *, count: int) -> list[float]:
        """Milliseconds of each of `count` runs."""
        took = []
        for _ in range(count):
            started_s = time.perf_counter()
            self.run(x)
            took.append(1e3 * (time.perf_counter() - started_s))
        return took
