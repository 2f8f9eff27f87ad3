"""Programs that torch.export saved (`.pt2`): the file says what its inputs and outputs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch.utils import _pytree as pytree

from fabric.errors import ModelError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import max_batch_size
from serve_apps.runtimes.refusals import closed, unreadable, unsupported
from serve_apps.runtimes.torch_tensors import DATATYPES, Caller, check_precision, set_threads
from serve_apps.runtimes.torch_weights import share, weights_of
from serve_apps.tensors import Array, ModelMetadata, TensorSpec


class ExportedProgram:
    """One exported program. Safe to call from several threads."""

    def __init__(self, metadata: ModelMetadata, caller: Caller) -> None:
        self.metadata = metadata
        self._run: Callable[[Mapping[str, Array]], dict[str, Array]] = caller

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        set_threads(options.num_threads)
        try:
            program = torch.export.load(str(path))
            module = program.module()
        except Exception as error:
            raise unreadable("torch", path, error) from error
        weights = weights_of(module)
        check_precision(options, weights)
        if options.cache is not None:
            share(weights, path, options.cache)
        metadata = _describe(program)
        structure = program.call_spec.in_spec

        def call(*tensors: torch.Tensor) -> Any:
            args, kwargs = pytree.tree_unflatten(tensors, structure)
            return module(*args, **kwargs)

        caller = Caller(call, metadata.inputs, options)
        caller.declare(metadata.outputs)
        return cls(metadata, caller)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(inputs)

    def close(self) -> None:
        self._run = _refuse


def _refuse(_inputs: Mapping[str, Array]) -> dict[str, Array]:
    raise closed()


def _describe(program: Any) -> ModelMetadata:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    given = program.graph_signature.user_inputs
    inputs = [_spec("input", name, values.get(name)) for name in given]
    made = program.graph_signature.user_outputs
    outputs = [_spec("output", name, values.get(old)) for name, old in zip(_output_names(program, len(made)), made, strict=True)]
    shapes = [_symbols(values[name]) for name in (*given, *made)]
    return ModelMetadata("", (), "pytorch_export", tuple(inputs), tuple(outputs), max_batch_size(shapes))


def _spec(side: str, name: str, value: Any) -> TensorSpec:
    if not isinstance(value, torch.Tensor) or value.dtype not in DATATYPES:
        raise unsupported(f"{side} {name!r}", str(getattr(value, "dtype", type(value).__name__)))
    return TensorSpec(str(name), DATATYPES[value.dtype], tuple(size if isinstance(size, int) else -1 for size in value.shape))


def _symbols(value: Any) -> list[int | str]:
    return [size if isinstance(size, int) else str(size) for size in value.shape]


def _output_names(program: Any, num: int) -> list[str]:
    """As `named_outputs` names what the program returns. Raises: `ModelError` (`unsupported_signature`) where that is nested."""
    try:
        shape = pytree.tree_unflatten(list(range(num)), program.call_spec.out_spec)
    except Exception as error:
        raise ModelError(f"the program's outputs cannot be told apart: {error}", code="unsupported_signature") from error
    if isinstance(shape, Mapping):
        return [str(name) for name in shape]
    return list(getattr(shape, "_fields", None) or [f"output_{place}" for place in range(num)])
