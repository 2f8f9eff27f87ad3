"""What is torch's alone: signatures that the file lacks, precision, outputs of several shapes, weights mapped once. Needs torch."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest

from fabric.errors import ModelError
from serve_apps import load_model
from serve_apps.runtimes import FAST_DTYPES, WEIGHTS_CACHE
from serve_apps.tensors import TensorSpec
from tests.softmax_models import X, expected, torch_module, write_exported, write_scripted, write_traced

torch = pytest.importorskip("torch", reason="torch is not installed")

from serve_apps.runtimes.torch_weights import load_weights  # noqa: E402
from serve_apps.runtimes.traced_inputs import traced_inputs  # noqa: E402


class Pair(NamedTuple):
    total: torch.Tensor
    double: torch.Tensor


class Several(torch.nn.Module):  # type: ignore[misc]
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Pair:
        return Pair(a + b, 2 * a)


class Summed(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(0)


class Writes(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)


class Wide(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(64, 64)
        self.tied = torch.nn.Linear(64, 64)
        self.tied.weight = self.first.weight
        self.register_buffer("shift", torch.ones(2048))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.first(x)) + self.shift[:64]


def refused(path: Path, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_model(path, **options)
    return caught.value


def test_a_scripted_file_needs_to_be_told_its_inputs(tmp_path: Path) -> None:
    path = write_scripted(tmp_path)
    error = refused(path)
    assert error.code == "needs_signature"
    assert 'TensorSpec("input", "FP32"' in str(error.hint)
    assert refused(path, inputs=[TensorSpec("x", "FP32", (-1, 4))]).code == "needs_signature"
    error = refused(path, inputs=[TensorSpec("input", "FP32", (-1, 5))])
    assert error.code == "needs_signature"
    assert "input=[2, 5]" in error.message


def test_a_trace_says_what_it_was_traced_with_and_is_not_run_for_it(tmp_path: Path) -> None:
    torch.jit.trace(Several(), (torch.zeros(2, 3), torch.zeros(2, 3))).save(str(tmp_path / "m"))
    assert traced_inputs(tmp_path / "m") == [("float32", (2, 3)), ("float32", (2, 3))]
    assert traced_inputs(write_scripted(tmp_path)) is None
    with zipfile.ZipFile(tmp_path / "trap", "w") as archive:
        archive.writestr("m/traced_inputs.pkl", b"cos\nsystem\n(S'true'\ntR.")
    assert traced_inputs(tmp_path / "trap") is None


def test_outputs_are_named_by_their_fields_or_by_their_place(tmp_path: Path) -> None:
    torch.jit.script(Several()).save(str(tmp_path / "m"))
    model = load_model(tmp_path / "m", inputs=[TensorSpec("a", "INT64", (-1, 2)), TensorSpec("b", "INT64", (-1, 2))])
    assert [str(spec) for spec in model.outputs] == ["total: INT64[?, 2]", "double: INT64[?, 2]"]
    assert model.infer({"a": [[1, 2]], "b": [[3, 4]]})["total"].tolist() == [[4, 6]]


def test_rows_that_are_mixed_are_no_batch(tmp_path: Path) -> None:
    torch.jit.trace(Summed(), torch.zeros(2, 3)).save(str(tmp_path / "m"))
    model = load_model(tmp_path / "m")
    assert model.metadata.max_batch_size == 0
    assert model.inputs[0].shape == (2, 3)
    assert model.outputs[0].shape == (3,)


def test_what_may_not_be_written_to_is_copied_first(tmp_path: Path) -> None:
    torch.jit.trace(Writes(), torch.zeros(2)).save(str(tmp_path / "m"))
    given = numpy.frombuffer(bytes(8), numpy.float32)
    assert load_model(tmp_path / "m").run({"x": given})["output_0"].tolist() == [1, 1]
    assert given.tolist() == [0, 0]


@pytest.mark.parametrize("write", [write_traced, write_exported])
def test_bf16_multiplies_in_bf16_and_answers_in_the_declared_dtype(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path)
    exact = load_model(path).run({"input": X})["output_0"]
    half = load_model(path, precision="bf16").run({"input": X})["output_0"]
    assert half.dtype == exact.dtype == numpy.float32
    assert not numpy.array_equal(half, exact)
    numpy.testing.assert_allclose(half, exact, atol=0.02)


@pytest.mark.parametrize(("fast", "is_exact"), [(frozenset(), True), (frozenset({"bf16"}), False), (frozenset({"fp16"}), True)])
def test_auto_takes_bf16_where_the_flavor_is_faster_in_it(tmp_path: Path, fast: frozenset[str], is_exact: bool) -> None:
    path = write_traced(tmp_path)
    token = FAST_DTYPES.set(fast)
    try:
        made = load_model(path, precision="auto").run({"input": X})["output_0"]
    finally:
        FAST_DTYPES.reset(token)
    assert numpy.array_equal(made, load_model(path).run({"input": X})["output_0"]) is is_exact


def test_fp32_of_a_file_of_half_precision_is_refused(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 4).to(torch.bfloat16).eval()
    torch.jit.trace(module, torch.zeros(2, 4, dtype=torch.bfloat16)).save(str(tmp_path / "m"))
    assert refused(tmp_path / "m", precision="fp32").code == "unsupported_precision"
    model = load_model(tmp_path / "m")
    assert model.inputs[0].datatype == "BF16"
    made = model.infer(numpy.ones((1, 4), numpy.float32))["output_0"]
    assert made.dtype == numpy.uint16
    with torch.inference_mode():
        numpy.testing.assert_array_equal(made, module(torch.ones(1, 4, dtype=torch.bfloat16)).view(torch.uint16).numpy())


def mapped_bytes(folder: Path) -> int:
    """How much of the files in `folder` this process has mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    return sum(end - start for start, end in ranges)


@pytest.mark.parametrize("name", ["traced", "exported"])
def test_weights_are_mapped_from_one_file(tmp_path: Path, name: str) -> None:
    module = Wide().eval()
    if name == "traced":
        torch.jit.trace(module, torch.zeros(2, 64)).save(str(tmp_path / "m"))
    else:
        torch.export.save(torch.export.export(module, (torch.zeros(2, 64),)), tmp_path / "m.pt2")
        (tmp_path / "m.pt2").rename(tmp_path / "m")
    x = numpy.ones((2, 64), numpy.float32)
    private = load_model(tmp_path / "m").infer(x)["output_0"]
    token = WEIGHTS_CACHE.set(tmp_path / "cache")
    try:
        models = [load_model(tmp_path / "m") for _ in range(2)]
    finally:
        WEIGHTS_CACHE.reset(token)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 1
    assert mapped_bytes(tmp_path / "cache") >= 2 * 4 * 64 * 64
    for model in models:
        numpy.testing.assert_array_equal(model.infer(x)["output_0"], private)


def test_a_cache_that_cannot_be_used_costs_the_sharing_and_not_the_model(tmp_path: Path) -> None:
    torch.jit.trace(Wide().eval(), torch.zeros(2, 64)).save(str(tmp_path / "m"))
    (tmp_path / "cache").write_text("a file")
    token = WEIGHTS_CACHE.set(tmp_path / "cache")
    try:
        assert load_model(tmp_path / "m").infer(numpy.ones((2, 64)))["output_0"].shape == (2, 64)
    finally:
        WEIGHTS_CACHE.reset(token)


@pytest.mark.parametrize("kind", ["safetensors", "checkpoint", "nested checkpoint"])
def test_a_users_module_takes_its_weights_mapped(tmp_path: Path, kind: str) -> None:
    state = torch_module(torch).state_dict()
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed").torch.save_file(state, tmp_path / "w")
    else:
        torch.save(state if kind == "checkpoint" else {"state_dict": state}, tmp_path / "w")
    with torch.device("meta"):
        empty = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1))
    module = load_weights(empty, tmp_path / "w")
    assert not module.training
    assert not any(value.requires_grad for value in module.parameters())
    with torch.inference_mode():
        numpy.testing.assert_allclose(module(torch.from_numpy(X)).numpy(), expected(), rtol=1e-4)


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "w")
    with pytest.raises(ModelError) as caught:
        load_weights(torch.nn.Linear(5, 3), tmp_path / "w")
    assert caught.value.code == "wrong_weights"
    (tmp_path / "w").write_bytes(b"nothing")
    with pytest.raises(ModelError) as caught:
        load_weights(torch.nn.Linear(5, 3), tmp_path / "w")
    assert caught.value.code == "model_unreadable"


def test_a_buffer_that_no_file_holds_is_said(tmp_path: Path) -> None:
    def build() -> Any:
        module = torch.nn.Linear(4, 3)
        module.register_buffer("scale", torch.ones(3), persistent=False)
        return module

    torch.save(build().state_dict(), tmp_path / "w")
    with torch.device("meta"):
        empty = build()
    with pytest.raises(ModelError, match="scale"):
        load_weights(empty, tmp_path / "w")
    assert load_weights(build(), tmp_path / "w").scale.tolist() == [1, 1, 1]
