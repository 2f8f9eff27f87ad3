"""Reads PyTorch model files and counts what a call of torch code computes, by torch's own counter.

A file is never allowed to run code as it is loaded, unless its user says that it is trusted: weights are loaded with
`weights_only=True`, TorchScript holds no Python. Whole pickled modules and exported programs may run code, and are refused.

To be used in a process of its own: torch takes seconds to import, and what it counts, it runs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fabric.errors import ModelError, UserError
from profiler.model_facts import ModelFacts, Sight, Tensor, unreadable
from profiler.roofline import Cost

_MODEL_DTYPES = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16", "torch.float64": "fp64"}
_ID_WORDS = ("ids", "id", "tokens", "mask", "types")


def import_torch() -> Any:
    """Raises: UserError `missing_package`."""
    try:
        import torch
    except ImportError as error:
        hint = "pip install torch, or export the model to ONNX"
        raise UserError("a PyTorch model needs the package torch", code="missing_package", hint=hint, package="torch") from error
    return torch


def load_torch(path: Path, *, is_trusted: bool = False) -> tuple[Any, Mapping[str, Any]]:
    """(a module that can be called, or None; its weights by name) of a `.pt`, `.pth` or `.pt2` file.

    Raises: ModelError `unreadable_model`, `unsafe_model`; UserError `missing_package`.
    """
    torch = import_torch()
    try:
        names = set(zipfile.ZipFile(path).namelist()) if zipfile.is_zipfile(path) else set()
        inner = {name.partition("/")[2] for name in names}
        if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
            module = torch.jit.load(str(path), map_location="cpu").eval()
            return module, dict(module.state_dict())
        if any(name.startswith("models/") for name in inner):
            if not is_trusted:
                raise _unsafe(path, "an exported program may run code as it is loaded")
            program = torch.export.load(str(path))
            return program.module(), dict(program.state_dict)
        loaded = torch.load(str(path), map_location="cpu", weights_only=not is_trusted)
    except ModelError:
        raise
    except Exception as error:
        if "weights only" in str(error).lower() or "unsupported global" in str(error).lower():
            raise _unsafe(path, "it holds pickled code, which would run as it is loaded") from error
        raise unreadable(path, error) from error
    if isinstance(loaded, torch.nn.Module):
        return loaded.eval(), dict(loaded.state_dict())
    return None, {str(name): value for name, value in _tensors(loaded)}


def _unsafe(path: Path, why: str) -> ModelError:
    hint = "export it with torch.jit.trace(…).save or to ONNX; --trust loads it as it is, if it is your own"
    return ModelError(f"{path} was not loaded: {why}", code="unsafe_model", hint=hint, path=str(path))


def _tensors(loaded: Any, prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    """The tensors of a checkpoint, which may keep its weights one or two levels down (`model`, `state_dict`)."""
    for name, value in loaded.items() if isinstance(loaded, Mapping) else ():
        if hasattr(value, "shape") and hasattr(value, "element_size"):
            yield f"{prefix}{name}", value
        elif depth < 2:
            yield from _tensors(value, f"{prefix}{name}.", depth + 1)


def weights_facts(module: Any, weights: Mapping[str, Any]) -> ModelFacts:
    """What the weights alone tell: parameters, and the kind of work by the classes of the layers and the weights' names."""
    num = sum(int(tensor.numel()) for tensor in weights.values())
    notes = () if module is not None else ("the file holds weights alone: what is done with them, and so FLOPs and time, is not in it",)
    return ModelFacts("torch", (), None, num, Sight(tuple(sorted(set(_classes(module, weights)))), ("torch",)), (), notes)


def _classes(module: Any, weights: Mapping[str, Any]) -> Iterable[str]:
    for part in module.modules() if module is not None else ():
        yield str(getattr(part, "original_name", "") or type(part).__name__).lower()
    for name, tensor in weights.items():
        words = name.lower().replace("_", ".").split(".")
        if name.endswith("weight") and tensor.dim() in (3, 4, 5) and not {"attn", "attention"} & set(words):
            yield f"conv{tensor.dim() - 2}d"
        if tensor.dim() == 2 and {"embeddings", "embedding", "embed", "wte"} & set(words) and tensor.shape[0] >= 1000:
            yield "tokenembedding"
        if {"attention", "attn"} & set(words):
            yield "attention"


def example_inputs(
    module: Any, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Inputs to call a module with. Raises: UserError `needs_shape`, `unknown_input`."""
    torch = import_torch()
    names = _input_names(module)
    if unknown := sorted(set(shapes) - set(names)):
        raise UserError(f"the model has no input {unknown[0]!r}", code="unknown_input", hint=f"its inputs: {', '.join(names)}")
    if missing := [name for name in names if name not in shapes]:
        shown = " ".join(f"--shape {name}=1x3x224x224" for name in missing)
        message = f"a PyTorch file does not say what shape its inputs have: {', '.join(missing)}"
        raise UserError(message, code="needs_shape", hint=f"for example {shown}; ids of tokens: --shape {missing[0]}=1x128:int64")
    tensors = tuple(Tensor(name, dtypes.get(name) or _guessed_dtype(name), shapes[name]) for name in names)
    made = (
        torch.ones(t.shape, dtype=getattr(torch, t.dtype)) if t.dtype.startswith(("int", "bool")) else _random(torch, t) for t in tensors
    )
    return tensors, tuple(made)


def _random(torch: Any, tensor: Tensor) -> Any:
    return torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)).to(getattr(torch, tensor.dtype))


def _input_names(module: Any) -> tuple[str, ...]:
    import inspect

    if hasattr(module, "graph") and hasattr(module.graph, "inputs"):  # TorchScript
        return tuple(value.debugName().partition(".")[0] for value in list(module.graph.inputs())[1:])
    placed = getattr(getattr(module, "graph", None), "nodes", None)
    if placed is not None:
        return tuple(node.name for node in placed if node.op == "placeholder")
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def _guessed_dtype(name: str) -> str:
    return "int64" if set(name.lower().split("_")) & set(_ID_WORDS) else "float32"


def counted(call: Callable[[], Any]) -> Cost | None:
    """What one call of torch code computes and moves, by running it once. None where it computed nothing that torch counts.

    Source: `torch.utils.flop_counter` for FLOPs (matrix products, convolutions, attention). Bytes are those of every result that is
    not a view and not element-wise (those are fused), written once and read once, and of the parameters that were read.
    """
    torch = import_torch()
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    class Traffic(TorchDispatchMode):  # type: ignore[misc]
        """Bytes of results, kernels and parameters, as they pass."""

        def __init__(self) -> None:
            super().__init__()
            self.moved_bytes = self.num_kernels = 0
            self.weights: dict[int, tuple[int, str]] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            is_lookup = "embedding" in str(func)  # reads a few rows of its table, which are its result
            for value in () if is_lookup else torch.utils._pytree.tree_leaves(args):
                if isinstance(value, torch.Tensor) and (isinstance(value, torch.nn.Parameter) or (value.requires_grad and value.is_leaf)):
                    self.weights[value.data_ptr()] = (value.numel() * value.element_size(), str(value.dtype))
            if not func.is_view and torch.Tag.pointwise not in func.tags and "detach" not in str(func):
                self.num_kernels += 1
                leaves = torch.utils._pytree.tree_leaves(result)
                self.moved_bytes += 2 * sum(v.numel() * v.element_size() for v in leaves if isinstance(v, torch.Tensor))
            return result

    with FlopCounterMode(display=False) as counter, Traffic() as traffic:
        call()
    flops = float(counter.get_total_flops())
    if flops <= 0:
        return None
    weights_bytes = sum(size for size, _ in traffic.weights.values())
    sizes: dict[str, int] = {}
    for size, dtype in traffic.weights.values():
        sizes[dtype] = sizes.get(dtype, 0) + size
    dtype = _MODEL_DTYPES.get(max(sizes, key=lambda name: sizes[name]) if sizes else "", "fp32")
    return Cost(flops, float(traffic.moved_bytes + weights_bytes), dtype, weights_bytes, 0, traffic.num_kernels)
