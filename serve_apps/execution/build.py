"""The two doors of this package: a service class, or a bare loaded model, becomes a `ServedModel`.

A service's constructor runs in the thread (or on the loop) in which its calls will run. What a service is, `predict` says: its
annotations are the metadata, `yield` makes it stream, and the class attribute `kind` (`embeddings`, `generate`) tells the OpenAI
dialect what it is for.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fabric.errors import UnknownNameError, UserError
from serve_apps.execution.lanes import Lane, LoopLane, ThreadLane
from serve_apps.execution.served import Served
from serve_apps.execution.target import Manner, Target
from serve_apps.forms import ArrayForm, ListForm, TextForm
from serve_apps.model_service import Capture, ModelService
from serve_apps.serve_options import ServeOptions, class_options
from serve_apps.signature import Input, Signature, derive_signature
from serve_apps.tensors import DTYPES, ModelMetadata, TensorSpec

KINDS = ("tensors", "embeddings", "generate")
SERVICE_PLATFORM = "tierfabric_python"


def build_served_model(service: Capture | ModelService, name: str, version: str, options: ServeOptions | None = None) -> Served:
    """Run the constructor of `service` here and serve it. `options` None: those that its class declares.

    Raises: whatever the constructor raises; `UserError` (`bad_annotation`, `unknown_kind`).
    """
    capture = service if isinstance(service, Capture) else vars(service).get("_capture")
    cls: Any = capture.cls if capture is not None else type(service)
    options = options or class_options(cls)
    predict = getattr(object.__new__(cls), "predict")  # noqa: B009 - the base class has no such attribute
    manner = manner_of(predict)
    hints = capture.resolved_hints() if capture is not None else {}
    signature = derive_signature(predict, hints, is_batched=options.max_batch_size > 0)
    metadata = service_metadata(cls, signature, manner, name, version, options)
    lane: Lane = LoopLane() if manner.is_async else ThreadLane(options.max_concurrency or 1)
    try:
        built: Any = lane.build(capture.build) if capture is not None else service
    except BaseException:
        lane.stop()
        raise
    target = Target(built.predict, signature, manner, getattr(built, "close", _nothing))
    return Served(target, metadata, version, options, lane)


def serve_runtime(model: Any, name: str, version: str, options: ServeOptions | None = None) -> Served:
    """Serve what `load_model` returned. Raises: `UserError` (`not_batchable`) where `max_batch_size` is given and axis 0 is fixed."""
    options = options or ServeOptions()
    said: ModelMetadata | None = getattr(model, "metadata", None)
    inputs, outputs = (said.inputs, said.outputs) if said is not None else (_specs(model.inputs), _specs(model.outputs))
    if options.max_batch_size:
        fixed = [spec for spec in (*inputs, *outputs) if not spec.shape or spec.shape[0] != -1]
        if fixed:
            raise UserError(f"{fixed[0]} has no free first dimension to batch along", code="not_batchable", hint="leave max_batch_size out")
    signature = Signature(
        tuple(Input(spec.name, ArrayForm(spec.datatype, spec.shape), spec.is_optional) for spec in inputs),
        {spec.name: ArrayForm(spec.datatype, spec.shape) for spec in outputs},
    )
    start = said or ModelMetadata(name, (), "onnx_onnxv1", inputs, outputs)
    metadata = replace(start, name=name, versions=(version,), max_batch_size=options.max_batch_size)
    # The signature has been checked by then: what `load_model` returned would check and convert once more.
    call = getattr(model, "runtime", model).infer
    target = Target(lambda **arrays: call(arrays), signature, Manner.CALL, getattr(model, "close", _nothing))
    return Served(target, metadata, version, options, ThreadLane(options.max_concurrency or 1))


def manner_of(predict: Any) -> Manner:
    if inspect.isasyncgenfunction(predict):
        return Manner.ASYNC_STREAM
    if inspect.iscoroutinefunction(predict):
        return Manner.ASYNC
    return Manner.STREAM if inspect.isgeneratorfunction(predict) else Manner.CALL


def service_metadata(cls: type, signature: Signature, manner: Manner, name: str, version: str, options: ServeOptions) -> ModelMetadata:
    """What a service says of itself. Raises: `UnknownNameError` (`unknown_kind`)."""
    inputs, outputs = signature.specs()
    texts = [one.name for one in signature.inputs if _is_text(one.form)]
    texts_out = [output for output, form in signature.outputs.items() if _is_text(form)]
    is_telling = manner.is_stream and bool(texts and texts_out)
    kind = getattr(cls, "kind", "generate" if is_telling else "tensors")
    if kind not in KINDS:
        raise UnknownNameError.of("kind", str(kind), KINDS)
    return ModelMetadata(
        name=name,
        versions=(version,),
        platform=SERVICE_PLATFORM,
        inputs=inputs,
        outputs=outputs,
        max_batch_size=options.max_batch_size,
        is_streaming=manner.is_stream,
        text_input=getattr(cls, "text_input", texts[0] if texts else ""),
        text_output=getattr(cls, "text_output", texts_out[0] if texts_out else ""),
        kind=kind,
        has_side_effects=bool(getattr(cls, "has_side_effects", False)),
    )


def _is_text(form: Any) -> bool:
    if isinstance(form, ListForm):
        form = form.item
    return isinstance(form, TextForm) and form.is_text


def _specs(said: Any) -> tuple[TensorSpec, ...]:
    """The specs of a loaded model whose dtypes are numpy's names."""
    names: Mapping[str, str] = {str(dtype): datatype for datatype, dtype in DTYPES.items() if datatype != "BF16"}
    return tuple(
        spec
        if isinstance(spec, TensorSpec)
        else TensorSpec(spec.name, names.get(spec.dtype, "BYTES"), tuple(size if isinstance(size, int) else -1 for size in spec.shape))
        for spec in said
    )


def _nothing() -> None:
    """A model that has nothing to free."""
