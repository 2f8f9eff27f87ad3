"""Decides from the annotations of `predict` what a model's inputs and outputs are, and converts requests and results accordingly.

| annotation | tensor |
|---|---|
| `NDArray[np.float32]`, with `Annotated[…, Shape(None, 16)]` | as is; without a shape any is taken |
| `str`, `bytes` | BYTES [1] |
| `int`, `float`, `bool` | INT64, FP64, BOOL [1] |
| `list[str]`, `list[int]`, … | one axis of any length |
| pydantic models, dataclasses, dicts, none at all | BYTES [1] that holds JSON |

A result that is a dict of arrays gives one output for each; a tuple of arrays `output_0`, `output_1`, …; all else the one `output`.
A request's parameters fill arguments that it gave no tensor for.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy

from fabric.errors import ModelError, UnknownNameError, UserError, nearest_hint
from serve_apps.declare import Shape
from serve_apps.forms import SCALARS, ArrayForm, Form, JsonForm, ListForm
from serve_apps.tensors import DTYPES, Array, InferRequest, Tensor, TensorSpec, datatype_of

OUTPUT = "output"
_STREAMS = (Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)


@dataclass(frozen=True, slots=True)
class Input:
    """One argument of `predict`."""

    name: str
    form: Form
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """What a callable takes and gives. `outputs`: name -> form; where it `names_outputs` not, the result's own keys name them."""

    inputs: tuple[Input, ...]
    outputs: Mapping[str, Form]
    takes_any_name: bool = False
    names_outputs: bool = True

    def specs(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Inputs and outputs as the protocols show them."""
        inputs = tuple(TensorSpec(one.name, one.form.datatype, one.form.shape, one.is_optional) for one in self.inputs)
        return inputs, tuple(TensorSpec(name, form.datatype, form.shape) for name, form in self.outputs.items())

    def arguments(self, request: InferRequest) -> dict[str, Any]:
        """The arguments of a request, checked.

        Raises: `ModelError` (`unknown_input`, `missing_input`, `wrong_dtype`, `wrong_shape`, `bad_json`, `wrong_value`, `unknown_output`).
        """
        given = {tensor.name: tensor for tensor in request.inputs}
        arguments: dict[str, Any] = {}
        for one in self.inputs:
            tensor = given.pop(one.name, None)
            if tensor is not None:
                one.form.check(tensor)
                arguments[one.name] = one.form.value_of(tensor)
            elif request.parameters and one.name in request.parameters:
                arguments[one.name] = one.form.from_json(request.parameters[one.name])
            elif not one.is_optional:
                raise ModelError(f"input {one.name!r} is missing", code="missing_input", name=one.name)
        if given:
            self._take_unnamed(given, arguments)
        if request.outputs and self.names_outputs:
            for output in request.outputs:
                if output.name not in self.outputs:
                    raise unknown_output(output.name, self.outputs)
        return arguments

    def _take_unnamed(self, given: Mapping[str, Tensor], arguments: dict[str, Any]) -> None:
        for name, tensor in given.items():
            if not self.takes_any_name:
                known = [one.name for one in self.inputs]
                raise ModelError(f"the model has no input {name!r}", code="unknown_input", hint=nearest_hint(name, known), name=name)
            arguments[name] = _PLAIN.value_of(tensor)

    def from_json(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the plain dialect, built into the types that `predict` names.

        Raises: `UnknownNameError` (`unknown_argument`), `UserError` (`missing_argument`, `wrong_value`, `wrong_dtype`, `wrong_shape`).
        """
        known = {one.name: one for one in self.inputs}
        for name in arguments:
            if name not in known and not self.takes_any_name:
                raise UnknownNameError.of("argument", name, known)
        for one in self.inputs:
            if one.name not in arguments and not one.is_optional:
                raise UserError(f"predict needs {one.name!r}", code="missing_argument", hint=f"it takes: {', '.join(known)}", name=one.name)
        try:
            return {name: known[name].form.from_json(value) if name in known else value for name, value in arguments.items()}
        except ModelError as error:
            raise UserError(error.message, code=error.code, hint=error.hint) from None

    def tensors(self, result: Any, request: InferRequest) -> tuple[Tensor, ...]:
        """The outputs that the request asked for, each once; all where it named none. In the model's order, as Triton has them.

        Raises: `ModelError` (`wrong_result`, `result_not_json`, `unknown_output`).
        """
        named = self._named(result)
        if not request.outputs:
            return tuple(self._tensor(name, value) for name, value in named.items())
        wanted = {output.name for output in request.outputs}
        for name in wanted:
            if name not in named:
                raise unknown_output(name, named)
        return tuple(self._tensor(name, value) for name, value in named.items() if name in wanted)

    def _named(self, result: Any) -> Mapping[str, Any]:
        if isinstance(result, Mapping) and result and (self._is_by_name(result) or all(map(_is_array, result.values()))):
            return result
        if isinstance(result, tuple) and result and all(map(_is_array, result)):
            return {f"{OUTPUT}_{number}": item for number, item in enumerate(result)}
        return {OUTPUT: result}

    def _is_by_name(self, result: Mapping[str, Any]) -> bool:
        return len(self.outputs) > 1 and result.keys() == self.outputs.keys()

    def _tensor(self, name: str, value: Any) -> Tensor:
        form = self.outputs.get(name)
        if isinstance(value, numpy.ndarray) and (form is None or isinstance(form, JsonForm)):
            array: Array = value
        else:
            try:
                array = self._said(form, value).array_of(value)
            except (ValueError, TypeError, AttributeError) as error:
                raise ModelError(f"output {name!r} is not what predict declares: {error}", code="wrong_result") from error
        try:
            return Tensor(name, form.datatype if form and form.datatype == "BF16" else datatype_of(array), array)
        except KeyError:
            raise ModelError(f"output {name!r} has dtype {array.dtype}, which no protocol knows", code="wrong_result") from None

    @staticmethod
    def _said(form: Form | None, value: Any) -> Form:
        """The declared form; where nothing is declared, that of the value."""
        if form is not None and form is not _PLAIN:
            return form
        return _ANY_ARRAY if _is_array(value) else SCALARS.get(type(value), _PLAIN)


def derive_signature(predict: Any, hints: Mapping[str, Any], *, is_batched: bool = False) -> Signature:
    """The signature of a bound `predict`; `hints`: its annotations, resolved. Raises: `UserError` (`bad_annotation`)."""
    inputs, takes_any_name = [], False
    for parameter in inspect.signature(predict).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any_name = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            form = form_of(hints.get(parameter.name, Any))
            inputs.append(Input(parameter.name, form, is_optional=parameter.default is not parameter.empty))
    outputs = _outputs(hints.get("return", Any))
    if is_batched and not any(isinstance(one.form, ArrayForm | ListForm) for one in inputs):
        raise UserError(
            "max_batch_size needs an argument that holds rows", code="bad_annotation", hint="annotate one as NDArray[...] or list[...]"
        )
    named = not any(isinstance(form, JsonForm) for form in outputs.values())
    return Signature(tuple(inputs), outputs, takes_any_name, names_outputs=named)


def form_of(annotation: Any) -> Form:
    """The form of one annotated type. Raises: `UserError` (`bad_annotation`) for a dtype that no protocol knows."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    if annotation in (Any, None, type(None), inspect.Parameter.empty, dict, list, object) or isinstance(annotation, str):
        return _PLAIN
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = form_of(arguments[0])
        shape = next((item for item in arguments[1:] if isinstance(item, Shape)), None)
        if shape is not None and isinstance(inner, ArrayForm):
            return ArrayForm(inner.datatype, shape.sizes, inner.takes_any_dtype)
        return inner
    if origin in (typing.Union, types.UnionType):
        left = [argument for argument in arguments if argument is not type(None)]
        return form_of(left[0]) if len(left) == 1 else _typed_json(annotation)
    if annotation is numpy.ndarray or origin is numpy.ndarray:
        return _array_form(arguments)
    if origin in (list, Sequence) and arguments and arguments[0] in SCALARS:
        return ListForm(SCALARS[arguments[0]])
    return _typed_json(annotation)


def unknown_output(name: str, known: Iterable[str]) -> ModelError:
    return ModelError(f"the model has no output {name!r}", code="unknown_output", hint=nearest_hint(name, known), name=name)


def _outputs(annotation: Any) -> dict[str, Form]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _STREAMS and arguments:
        return _outputs(arguments[0])
    if origin is tuple and arguments and Ellipsis not in arguments:
        forms = [form_of(argument) for argument in arguments]
        if all(isinstance(form, ArrayForm) for form in forms):
            return {f"{OUTPUT}_{number}": form for number, form in enumerate(forms)}
    if typing.is_typeddict(annotation):
        named = {name: form_of(kind) for name, kind in typing.get_type_hints(annotation, include_extras=True).items()}
        if all(isinstance(form, ArrayForm | ListForm) for form in named.values()):
            return named
    return {OUTPUT: form_of(annotation)}


def _array_form(arguments: tuple[Any, ...]) -> ArrayForm:
    """`numpy.ndarray[shape, dtype[T]]`, which `NDArray[T]` stands for."""
    scalar = next(iter(typing.get_args(arguments[-1])), Any) if arguments else Any
    if not (isinstance(scalar, type) and issubclass(scalar, numpy.generic)):
        return _ANY_ARRAY
    dtype = numpy.dtype(scalar)
    if dtype.kind in "USO":
        return ArrayForm("BYTES", takes_any_shape=True)
    for datatype, known in DTYPES.items():
        if known == dtype:
            return ArrayForm(datatype, takes_any_shape=True)
    raise UserError(f"arrays of {dtype} have no form in the protocols", code="bad_annotation", hint=f"known: {', '.join(DTYPES)}")


def _typed_json(annotation: Any) -> JsonForm:
    """Heavy on purpose only here: pydantic takes longer to import than the rest of a small service."""
    is_known = is_dataclass(annotation) or hasattr(annotation, "__pydantic_core_schema__") or typing.get_origin(annotation) is not None
    if not (is_known or typing.is_typeddict(annotation)):
        return _PLAIN
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return JsonForm(TypeAdapter(annotation))
    except PydanticUserError:
        return _PLAIN  # a type that pydantic cannot check: the service gets plain JSON


def _is_array(value: Any) -> bool:
    return isinstance(value, numpy.ndarray | numpy.generic)


_PLAIN = JsonForm()
_ANY_ARRAY = ArrayForm(takes_any_dtype=True, takes_any_shape=True)
