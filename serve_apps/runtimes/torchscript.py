"""TorchScript models: what the file does not say of its inputs is taken from its trace or from the caller, and its outputs from a try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from fabric.errors import ModelError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import DEFAULT_MAX_BATCH_SIZE
from serve_apps.runtimes.refusals import closed, unreadable, unsupported
from serve_apps.runtimes.torch_tensors import DATATYPES, DTYPES, Caller, check_precision, set_threads
from serve_apps.runtimes.torch_weights import share, weights_of
from serve_apps.runtimes.traced_inputs import traced_inputs
from serve_apps.tensors import Array, ModelMetadata, TensorSpec

_OPEN = 2
"""The size that a dimension which may have any is given in the try."""


class TorchScript:
    """One scripted or traced module. Safe to call from several threads."""

    def __init__(self, module: Any, metadata: ModelMetadata, caller: Caller) -> None:
        self._module = module
        self.metadata = metadata
        self._run: Callable[[Mapping[str, Array]], dict[str, Array]] = caller

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        set_threads(options.num_threads)
        try:
            module = torch.jit.load(str(path), map_location="cpu").eval()
        except Exception as error:
            raise unreadable("torch", path, error) from error
        weights = weights_of(module)
        check_precision(options, weights)
        arguments = module.forward.schema.arguments[1:]
        for argument in arguments:
            if str(argument.type) not in ("Tensor", "Optional[Tensor]"):
                raise unsupported(f"input {argument.name!r}", str(argument.type))
        names = [argument.name for argument in arguments]
        optional = {argument.name for argument in arguments if argument.has_default_value()}
        inputs, tries = _declared(path, names, optional, options)
        if options.cache is not None:
            share(weights, path, options.cache)
        # The outputs are declared in the file's precision, whatever is asked for: it must not change what a client sees.
        plain = Caller(module, inputs, LoadOptions(options.num_threads))
        metadata = _tried(plain, inputs, tries)
        caller = Caller(module, inputs, options)
        caller.declare(metadata.outputs)
        return cls(module, metadata, caller)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(inputs)

    def close(self) -> None:
        self._module, self._run = None, _refuse


def _refuse(_inputs: Mapping[str, Array]) -> dict[str, Array]:
    raise closed()


def _declared(
    path: Path, names: list[str], optional: set[str], options: LoadOptions
) -> tuple[tuple[TensorSpec, ...], list[tuple[int, ...]]]:
    """The inputs, and for each a shape that the model is known or hoped to take. Raises: `ModelError` (`needs_signature`)."""
    if options.inputs:
        by_name = {spec.name: spec for spec in options.inputs}
        missing = [name for name in names if name not in by_name and name not in optional]
        if missing or set(by_name) - set(names):
            raise ModelError(f"the inputs of {path} are {', '.join(names)}", code="needs_signature", hint="name these in inputs=[…]")
        specs = [by_name[name] for name in names if name in by_name]
        return tuple(specs), [tuple(_OPEN if size < 0 else size for size in spec.shape) for spec in specs]
    traced = traced_inputs(path)
    if traced is None or len(traced) != len(names):
        shown = ", ".join(f'TensorSpec("{name}", "FP32", (-1, …))' for name in names)
        raise ModelError(
            f"{path} was scripted, so it does not say what its inputs are like",
            code="needs_signature",
            hint=f"load_model(path, inputs=[{shown}]), or save a torch.jit.trace or torch.export of the model",
            path=str(path),
        )
    kinds = [getattr(torch, dtype) for dtype, _ in traced]
    specs = [TensorSpec(name, DATATYPES[kind], shape) for name, kind, (_, shape) in zip(names, kinds, traced, strict=True)]
    return tuple(specs), [shape for _, shape in traced]


def _tried(caller: Caller, inputs: tuple[TensorSpec, ...], shapes: list[tuple[int, ...]]) -> ModelMetadata:
    """What the model says of itself in two calls of zeros, the second with one row more. Raises: `ModelError` (`needs_signature`)."""
    try:
        once = caller.run(_zeros(inputs, shapes))
    except ModelError:
        raise
    except Exception as error:
        tried = ", ".join(f"{spec.name}={list(shape)}" for spec, shape in zip(inputs, shapes, strict=True))
        raise ModelError(
            f"the model does not run on zeros of the shapes {tried}: {error}",
            code="needs_signature",
            hint="inputs=[TensorSpec(…)] with sizes that it takes; -1 is tried as 2",
        ) from error
    is_batch = _follows(caller, inputs, shapes, once)
    if is_batch:
        inputs = tuple(TensorSpec(spec.name, spec.datatype, (-1, *spec.shape[1:]), spec.is_optional) for spec in inputs)
    outputs = [
        TensorSpec(name, DATATYPES[value.dtype], (-1, *value.shape[1:]) if is_batch else tuple(value.shape)) for name, value in once.items()
    ]
    return ModelMetadata("", (), "pytorch_torchscript", inputs, tuple(outputs), DEFAULT_MAX_BATCH_SIZE if is_batch else 0)


def _follows(caller: Caller, inputs: Sequence[TensorSpec], shapes: list[tuple[int, ...]], once: Mapping[str, torch.Tensor]) -> bool:
    """Whether dimension 0 of each output is that of each input, which makes it a batch."""
    rows = {shape[:1] for shape in shapes} | {tuple(value.shape[:1]) for value in once.values()}
    if len(rows) != 1 or rows == {()}:
        return False
    more = next(iter(rows))[0] + 1
    try:
        again = caller.run(_zeros(inputs, [(more, *shape[1:]) for shape in shapes]))
    except Exception:
        return False  # it takes one number of rows alone
    return all(value.shape[0] == more and value.shape[1:] == once[name].shape[1:] for name, value in again.items())


def _zeros(inputs: Sequence[TensorSpec], shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    return [torch.zeros(shape, dtype=DTYPES[spec.datatype]) for spec, shape in zip(inputs, shapes, strict=True)]
