"""The models of `cases` as a model repository of Triton's Python backend."""

from __future__ import annotations

from pathlib import Path

TYPES = {
    **{name: f"TYPE_{name}" for name in (
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")},
    "BYTES": "TYPE_STRING",
}  # fmt: skip

_HEAD = 'backend: "python"\ninstance_group [{ count: 1 kind: KIND_CPU }]\n'
_IMPORTS = "import numpy\nimport triton_python_backend_utils as triton\n\n\nclass TritonPythonModel:\n    def execute(self, requests):\n"
_COPY = """        return [triton.InferenceResponse([triton.Tensor("{to}", triton.get_input_tensor_by_name(each, "{of}").as_numpy())])
                for each in requests]
"""
_ADD = """        answers = []
        for each in requests:
            a, b = (triton.get_input_tensor_by_name(each, name).as_numpy() for name in "ab")
            found = [triton.Tensor("sum", a + b), triton.Tensor("difference", a - b)]
            answers.append(triton.InferenceResponse([one for one in found if one.name() in each.requested_output_names()]))
        return answers
"""
_WORDS = """        for each in requests:
            sender = each.get_response_sender()
            for word in triton.get_input_tensor_by_name(each, "text_input").as_numpy()[0].split():
                sender.send(triton.InferenceResponse([triton.Tensor("text_output", numpy.array([word], dtype=object))]))
            sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
_FAIL = '        raise ValueError("it fails always")\n'


def write_repository(root: Path) -> None:
    for datatype in TYPES:
        _write(
            root, f"identity_{datatype.lower()}", _tensors("INPUT0", "OUTPUT0", datatype, "-1, -1"), _COPY.format(of="INPUT0", to="OUTPUT0")
        )
    _write(root, "vector", _tensors("INPUT0", "OUTPUT0", "FP32", "-1"), _COPY.format(of="INPUT0", to="OUTPUT0"))
    _write(root, "failing", _tensors("INPUT0", "OUTPUT0", "FP32", "-1"), _FAIL)
    text = _tensors("text_input", "text_output", "BYTES", "1")
    _write(root, "echo_text", text, _COPY.format(of="text_input", to="text_output"))
    _write(root, "words", f"model_transaction_policy {{ decoupled: True }}\n{text}", _WORDS)
    row = "data_type: TYPE_FP32 dims: [ 3 ]"
    pair = f'input [{{ name: "a" {row} }}, {{ name: "b" {row} }}]\noutput [{{ name: "sum" {row} }}, {{ name: "difference" {row} }}]\n'
    _write(root, "add", f"max_batch_size: 8\n{pair}", _ADD)


def _tensors(source: str, target: str, datatype: str, dims: str) -> str:
    said = f"data_type: {TYPES[datatype]} dims: [ {dims} ]"
    return f'input [{{ name: "{source}" {said} }}]\noutput [{{ name: "{target}" {said} }}]\n'


def _write(root: Path, name: str, config: str, execute: str) -> None:
    folder = root / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(_IMPORTS + execute, encoding="utf-8")
    (folder.parent / "config.pbtxt").write_text(f'name: "{name}"\n{_HEAD}{config}', encoding="utf-8")
