"""ONNX files read: shapes, FLOPs, bytes and memory; and files that are none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fabric.errors import ModelError, UserError
from profiler.model_facts import Tensor

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from profiler.onnx_model import read_onnx  # noqa: E402

DATA = Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))


def saved(path: Path, nodes: list[Any], inputs: list[Any], weights: dict[str, Any], output: str = "y") -> Path:
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [made], [numpy_helper.from_array(value, name) for name, value in weights.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own.domain", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def convolution(path: Path, dtype: Any = np.float32) -> Path:
    kind = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}[dtype]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["y"]),
    ]
    given = [helper.make_tensor_value_info("x", kind, ["n", 3, 16, 16])]
    return saved(path, nodes, given, {"w": np.zeros((8, 3, 3, 3), dtype), "v": np.zeros((2048, 10), dtype)})


def test_a_graph_is_counted_by_hand(tmp_path: Path) -> None:
    facts = read_onnx(convolution(tmp_path / "m.onnx"))
    assert facts.cost is not None
    assert facts.inputs == (Tensor("x", "float32", (1, 3, 16, 16)),)
    assert facts.num_parameters == 216 + 20480
    assert facts.cost.flops == 2 * 2048 * 27 + 2048 + 2 * 2048 * 10
    assert facts.cost.weights_bytes == 4 * (216 + 20480)
    # read by the convolution, written by it, read by the product, its result; the rectifier is fused
    assert facts.cost.moved_bytes == facts.cost.weights_bytes + 4 * (768 + 2048 + 2048 + 10)
    assert facts.cost.num_kernels == 2
    # the convolution's result and the rectifier's live at once
    assert facts.cost.memory_bytes == facts.cost.weights_bytes + 4 * (2048 + 2048)
    assert facts.notes == ()


def test_the_batch_scales_the_work_and_not_the_weights(tmp_path: Path) -> None:
    one, many = (read_onnx(convolution(tmp_path / "m.onnx"), batch=batch).cost for batch in (1, 32))
    assert one is not None
    assert many is not None
    assert many.flops == 32 * one.flops
    assert many.weights_bytes == one.weights_bytes
    assert many.intensity > one.intensity


def test_the_precision_is_that_of_most_weights(tmp_path: Path) -> None:
    half = read_onnx(convolution(tmp_path / "m.onnx", np.float16)).cost
    assert half is not None
    assert half.dtype == "fp16"
    assert half.weights_bytes == 2 * (216 + 20480)


def test_shapes_that_are_left_open_are_assumed_and_said(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "seq"])]
    path = saved(tmp_path / "m.onnx", [helper.make_node("Gather", ["w", "ids"], ["y"])], given, {"w": np.zeros((50, 4), np.float32)})
    facts = read_onnx(path, batch=2)
    assert facts.inputs[0].shape == (2, 128)
    assert "ids 2x128" in facts.notes[0]
    assert read_onnx(path, shapes={"ids": (2, 7)}).inputs[0].shape == (2, 7)
    assert read_onnx(path, shapes={"ids": (2, 7)}).notes == ()


def test_a_table_that_ids_look_up_is_held_and_not_moved(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 8])]
    nodes = [helper.make_node("Gather", ["table", "ids"], ["e"]), helper.make_node("MatMul", ["e", "v"], ["y"])]
    weights = {"table": np.zeros((30000, 16), np.float32), "v": np.zeros((16, 2), np.float32)}
    cost = read_onnx(saved(tmp_path / "m.onnx", nodes, given, weights)).cost
    assert cost is not None
    assert cost.weights_bytes == 4 * (480_000 + 32)
    assert cost.moved_bytes == 4 * (32 + 128 + 128 + 16)


def test_an_input_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_onnx(convolution(tmp_path / "m.onnx"), shapes={"image": (1, 3, 8, 8)})
    assert caught.value.code == "unknown_input"
    assert "x" in str(caught.value.hint)


def test_a_model_of_unknown_operations_has_no_figure_and_says_which(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])]
    facts = read_onnx(saved(tmp_path / "m.onnx", [helper.make_node("Secret", ["x"], ["y"], domain="own.domain")], given, {}))
    assert facts.cost is None
    assert facts.notes == ("not counted: Secret ×1",)


def test_a_model_with_branches_has_no_figure(tmp_path: Path) -> None:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "b", [], [out])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    given = [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    assert read_onnx(saved(tmp_path / "m.onnx", [node], given, {})).cost is None


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07", b"\x89PNG\r\n\x1a\n" * 9, b"PK\x03\x04" * 20], ids=repr)
def test_a_file_that_is_no_model_is_an_error_with_a_hint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_onnx(path)
    assert caught.value.code == "unreadable_model"
    assert caught.value.hint


def test_a_model_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = convolution(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError):
        read_onnx(path)


def test_without_the_package_onnx_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = convolution(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError) as caught:
        read_onnx(path)
    assert caught.value.code == "missing_package"
    assert "tierfabric[profile]" in str(caught.value.hint)


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason=f"no models in {DATA} (set FABRIC_DATA_DIR)")
def test_squeezenet_is_counted_as_published() -> None:
    """Source: F. Iandola et al., SqueezeNet 1.1: 1.24 M parameters; 0.35 G multiply-adds (torchvision's table of weights)."""
    facts = read_onnx(DATA / "models" / "SqueezeNet_fp16.onnx")
    assert facts.cost is not None
    assert facts.num_parameters == pytest.approx(1.2355e6, rel=1e-3)
    assert facts.cost.flops == pytest.approx(0.70e9, rel=0.02)
    assert facts.cost.dtype == "fp16"
