"""The plain dialect: `{"argument": value}` in, `{"result": …}` out, at `/{model}/predict`.

A service that takes its arguments as they are has a method `call`; to any other model the arguments are its inputs, by name.
Errors have this dialect's own form, `{"error": {"code", "message", "hint"}}`: 400 for what the caller did, 500 for what `predict` did.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import orjson

from fabric.errors import FabricError, ModelError, RejectedError, UnknownNameError, UserError
from serve_apps.oip import schedule
from serve_apps.oip.answer import Answer, json_answer
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.json_data import read_data
from serve_apps.oip.json_document import parse_object
from serve_apps.oip.statuses import retry_after_s, status_of
from serve_apps.oip.tensor_bytes import MAX_RANK
from serve_apps.served_model import ServedModel
from serve_apps.tensors import InferRequest, Tensor, TensorSpec

log = logging.getLogger("ray.serve")

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@runtime_checkable
class TakesArguments(Protocol):
    """A `ServedModel` that also takes the arguments of `predict` by name, as JSON has them, and gives what it returned."""

    async def call(self, arguments: Mapping[str, Any], *, priority: int = 0, deadline_s: float) -> Any: ...


async def predict(plane: DataPlane, name: str, body: bytes, headers: Mapping[bytes, bytes], priority: int = 0) -> Answer:
    """The answer, also where it is an error. `priority`: 1 is the highest, 0 the model's default."""
    try:
        model = plane.model(name)
    except UnknownNameError as error:
        return plain_error(404, error.code, error.message, error.hint)
    try:
        arguments = parse_object(body or b"{}")
        deadline_s = schedule.deadline_s({}, headers, now_s=time.monotonic())
        if isinstance(model, TakesArguments):
            result = await model.call(arguments, priority=priority, deadline_s=deadline_s)
        else:
            result = await _through_tensors(plane, model, arguments, priority, deadline_s)
        answer = Answer(200, [(b"content-type", b"application/json")], [write_result(result)], units=1)
    except UserError as error:
        answer = plain_error(413 if error.code == "too_large" else 400, error.code, error.message, error.hint)
    except RejectedError as error:
        answer = plain_error(status_of(error).http, error.code, error.message, error.hint)
        wait_s = retry_after_s(error)
        if wait_s is not None:
            answer.headers.append((b"retry-after", b"%d" % wait_s))
    except FabricError as error:
        status = status_of(error).http
        if status < 500:
            answer = plain_error(status, error.code, error.message, error.hint)
        else:
            log.exception("predict failed code=%s", error.code)
            answer = plain_error(500, error.code, f"{type(error).__name__}: {error.message}", error.hint)
    except Exception as error:
        log.exception("predict failed code=predict_failed")
        answer = plain_error(500, "predict_failed", f"{type(error).__name__}: {error}", None)
    answer.version = model.version
    return answer


def plain_error(status: int, code: str, message: str, hint: str | None) -> Answer:
    return json_answer({"error": {"code": code, "message": message, "hint": hint}}, status)


def write_result(result: Any) -> bytes:
    """`{"result": …}`: arrays as lists, and NaN and the infinities as null. Raises: ModelError (`result_not_json`)."""
    try:
        return orjson.dumps({"result": result}, default=_plain, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        if isinstance(error.__cause__, ModelError):
            raise error.__cause__ from None
        raise ModelError(f"predict returned what has no form in JSON: {error}", code="result_not_json") from None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    for form in ("tolist", "model_dump"):  # numpy's odd arrays and scalars, torch's tensors; pydantic's models
        if hasattr(value, form):
            return getattr(value, form)()
    raise ModelError(f"predict returned {type(value).__name__}, which has no form in JSON", code="result_not_json")


async def _through_tensors(plane: DataPlane, model: ServedModel, arguments: Mapping[str, Any], priority: int, deadline_s: float) -> Any:
    specs = {spec.name: spec for spec in model.metadata.inputs}
    unknown = next((name for name in arguments if name not in specs), None)
    if unknown is not None:
        raise UnknownNameError.of("argument", unknown, specs)
    inputs = tuple(_tensor(specs[name], value) for name, value in arguments.items())
    response = await plane.infer(InferRequest(model.metadata.name, inputs, model.version, priority=priority, deadline_s=deadline_s))
    results = {tensor.name: tensor.array for tensor in response.outputs}
    return next(iter(results.values())) if len(results) == 1 else results


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    """With the shape of the value's own nesting."""
    shape: list[int] = []
    inner = value
    while type(inner) is list and len(shape) < MAX_RANK:
        shape.append(len(inner))
        inner = inner[0] if inner else None
    data = value if type(value) is list else [value]
    return Tensor(spec.name, spec.datatype, read_data(spec.name, spec.datatype, tuple(shape), data))
