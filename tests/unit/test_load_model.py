"""Models are recognised by content, and what goes into them is checked against what they declare."""

from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from onnx import TensorProto, helper

from fabric.errors import ModelError
from serve_apps import load_model
from serve_apps.runtimes import NUM_THREADS
from serve_apps.runtimes.onnx_file import is_onnx
from serve_apps.tensors import TensorSpec


def write_model(path: Path, dtype: int = TensorProto.FLOAT, shape: tuple[Any, ...] = ("batch", 3), operator: str = "Identity") -> Path:
    """A model of one operator: `x` -> `y`, of one dtype and shape."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def threads_of(model: Any) -> int:
    return int(model.runtime._run._session.get_session_options().intra_op_num_threads)


def test_an_onnx_model_loads_and_describes_itself(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "model.onnx"))
    assert model.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert model.outputs == (TensorSpec("y", "FP32", (-1, 3)),)
    result = model.infer({"x": [[1, 2, 3]]})
    assert result["y"].dtype == numpy.float32
    assert result["y"].tolist() == [[1.0, 2.0, 3.0]]


def test_the_name_of_a_file_does_not_count(tmp_path: Path) -> None:
    assert load_model(str(write_model(tmp_path / "model.pickle"))).infer({"x": [[1.0, 2.0, 3.0]]})["y"].shape == (1, 3)


def test_text_goes_in_and_comes_out(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "m", TensorProto.STRING, (None, 1)))
    assert model.inputs[0].datatype == "BYTES"
    assert model.infer({"x": [["grüße"]]})["y"].tolist() == [["grüße"]]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x05K\x01.", b"PK\x03\x04" + bytes(40), b"\x89PNG\r\n\x1a\n", b"hello, model", bytes(64), b"\x08\x09", b"\x3a\x7f\x00"],
    ids=["empty", "pickle", "zip", "png", "text", "zeros", "a protobuf without a graph", "a graph longer than the file"],
)
def test_anything_else_is_an_unknown_format(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(file)
    assert caught.value.code == "unknown_model_format"
    assert caught.value.first_bytes == content[:16].hex()
    assert (repr(content[:16]) if content else "empty") in caught.value.message


def test_a_truncated_model_is_not_taken_for_one(tmp_path: Path) -> None:
    file = write_model(tmp_path / "model.onnx")
    assert is_onnx(file)
    file.write_bytes(file.read_bytes()[:-4])
    assert not is_onnx(file)


def test_a_model_that_the_runtime_refuses_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(write_model(tmp_path / "model.onnx", operator="NoSuchOperator"))
    assert caught.value.code == "model_unreadable"


def test_a_missing_file_is_named_with_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=str(tmp_path / "none.onnx")) as caught:
        load_model("none.onnx")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ({}, "missing_input", "'x' is missing"),
        ({"x": [[1, 2, 3]], "X1": 0}, "unknown_input", "no input 'X1'"),
        ({"x": [1, 2, 3]}, "wrong_shape", r"expected x: FP32\[\?, 3\], got \[3\]"),
        ({"x": [[1, 2]]}, "wrong_shape", r"got \[1, 2\]"),
        ({"x": [[1, 2, 3], [4]]}, "wrong_shape", "rows of different lengths"),
        ({"x": [["a", "b", "c"]]}, "wrong_dtype", "got text"),
        ({"x": [[None, 1, 2]]}, "wrong_dtype", "got object"),
    ],
)
def test_unsound_inputs_are_answered_with_what_was_expected(tmp_path: Path, inputs: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load_model(write_model(tmp_path / "m")).infer(inputs)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("dtype", "value", "accepted"),
    [
        (TensorProto.FLOAT, [1, 2], True),
        (TensorProto.FLOAT, numpy.array([0.5, 1.5]), True),
        (TensorProto.INT64, [1.0, 2.0], False),
        (TensorProto.INT64, [True, False], True),
        (TensorProto.UINT8, [0, 255], True),
        (TensorProto.UINT8, [0, 256], False),
        (TensorProto.UINT8, [-1, 0], False),
        (TensorProto.BOOL, [True, False], True),
        (TensorProto.BOOL, [1, 0], False),
        (TensorProto.STRING, [1, 2], False),
    ],
)
def test_values_are_converted_only_where_nothing_is_lost(tmp_path: Path, dtype: int, value: Any, accepted: bool) -> None:
    model = load_model(write_model(tmp_path / "m", dtype, (2,)))
    if accepted:
        assert model.infer({"x": value})["y"].tolist() == list(value)
    else:
        with pytest.raises(ModelError) as caught:
            model.infer({"x": value})
        assert caught.value.code == "wrong_dtype"


def test_threads_are_one_unless_told(tmp_path: Path) -> None:
    assert NUM_THREADS.get() == 1
    assert threads_of(load_model(write_model(tmp_path / "m"))) == 1
    assert threads_of(load_model(tmp_path / "m", num_threads=2)) == 2
