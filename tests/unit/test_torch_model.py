"""PyTorch files: what may be loaded, what torch counts, and that no file runs code unless it is trusted. Needs torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fabric.errors import ModelError, UserError

torch = pytest.importorskip("torch", reason="torch is not installed")

from profiler.fingerprint import fingerprint_model  # noqa: E402
from profiler.torch_model import counted, example_inputs, load_torch, weights_facts  # noqa: E402


class Net(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.fc = torch.nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


FLOPS = 2 * 16 * 27 * 32 * 32 + 2 * 16 * 10


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    torch.jit.trace(Net().eval(), torch.zeros(1, 3, 32, 32)).save(str(path))
    return path


def test_a_torchscript_file_is_counted_once_its_shapes_are_given(script: Path) -> None:
    module, weights = load_torch(script)
    tensors, given = example_inputs(module, {"x": (1, 3, 32, 32)}, {})
    cost = counted(lambda: module(*given))
    assert tensors[0].dtype == "float32"
    assert cost is not None
    assert cost.flops == FLOPS
    assert cost.dtype == "fp32"
    assert cost.weights_bytes == 4 * sum(tensor.numel() for tensor in weights.values())
    assert fingerprint_model(weights_facts(module, weights).sight).domain == "cv"


def test_shapes_that_the_file_does_not_say_are_asked_for(script: Path) -> None:
    module, _ = load_torch(script)
    with pytest.raises(UserError) as caught:
        example_inputs(module, {}, {})
    assert caught.value.code == "needs_shape"
    assert "--shape x=" in str(caught.value.hint)
    with pytest.raises(UserError, match="no input 'y'"):
        example_inputs(module, {"y": (1,)}, {})


def test_a_file_of_weights_tells_parameters_and_domain_and_no_work(tmp_path: Path) -> None:
    torch.save({"model": Net().state_dict()}, tmp_path / "w.pth")
    module, weights = load_torch(tmp_path / "w.pth")
    facts = weights_facts(module, weights)
    assert module is None
    assert facts.num_parameters == 16 * 27 + 16 + 170
    assert fingerprint_model(facts.sight).domain == "cv"
    assert "weights alone" in facts.notes[0]


class Opens:
    """Pickled code: writes a file as it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run_it(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3), "trap": Opens(str(tmp_path / "sprung"))}, tmp_path / "trap.pt")
    with pytest.raises(ModelError) as caught:
        load_torch(tmp_path / "trap.pt")
    assert caught.value.code == "unsafe_model"
    assert "--trust" in str(caught.value.hint)
    assert not (tmp_path / "sprung").exists()


def test_a_whole_module_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "whole.pt")
    with pytest.raises(ModelError) as caught:
        load_torch(tmp_path / "whole.pt")
    assert caught.value.code == "unsafe_model"
    module, _ = load_torch(tmp_path / "whole.pt", is_trusted=True)
    assert counted(lambda: module(torch.zeros(5, 2))) is not None


@pytest.mark.parametrize("content", [b"not a model", b"PK\x03\x04" * 30, b"\x80\x02."], ids=repr)
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_torch(tmp_path / "m.pt")
    assert caught.value.code in ("unreadable_model", "unsafe_model")


def test_code_that_computes_nothing_has_no_cost() -> None:
    assert counted(lambda: sum(range(10))) is None
