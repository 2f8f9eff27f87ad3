"""Inference on a serving address over the Open Inference Protocol (REST), with binary tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from fabric.api_client import HttpTransport, Reply, Transport
from fabric.errors import FabricError, ModelError, RejectedError, RuntimeFault, UnavailableError, UnknownNameError, UserError
from fabric.registry.names import LATEST, Ref
from serve_apps.oip.json_data import read_data
from serve_apps.oip.tensor_bytes import checked_datatype, checked_shape, read_tensor, write_tensor
from serve_apps.runtimes.signature import Signature
from serve_apps.runtimes.text_arrays import decoded
from serve_apps.tensors import Array, TensorSpec

_HEAD_LENGTH = "Inference-Header-Content-Length"


class Invoker:
    """For many threads. `address`: the URL where models answer; `token` empty: none is sent."""

    def __init__(self, address: Callable[[], str], token: Callable[[], str], transport: Transport | None = None) -> None:
        self._address = address
        self._transport = transport or HttpTransport(address)
        self._token = token
        self._signatures: dict[Ref, Signature] = {}

    def invoke(self, ref: Ref, inputs: Mapping[str, Any] | Any, timeout_s: float) -> dict[str, Array]:
        """One inference. What the model takes is asked once for each `ref`, and anew after a refusal: it may have changed.

        Raises: ModelError (`unknown_input`, `missing_input`, `wrong_dtype`, `wrong_shape`, and what the model answered),
        UnknownNameError (`unknown_model`), RejectedError, UnavailableError.
        """
        is_remembered = ref in self._signatures
        try:
            return self._once(ref, inputs, timeout_s)
        except (ModelError, UserError):
            self._signatures.pop(ref, None)
            if not is_remembered:
                raise
        return self._once(ref, inputs, timeout_s)

    def _once(self, ref: Ref, inputs: Mapping[str, Any] | Any, timeout_s: float) -> dict[str, Array]:
        arrays = self._signature(ref, timeout_s).convert(inputs)
        specs = {spec.name: spec for spec in self._signatures[ref].specs}
        described, parts = [], []
        for name, array in arrays.items():
            datatype = specs[name].datatype
            part = bytes(write_tensor(datatype, array))
            parts.append(part)
            parameters = {"binary_data_size": len(part)}
            described.append({"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": parameters})
        head = orjson.dumps({"inputs": described, "parameters": {"binary_data_output": True}})
        body = b"".join((head, *parts))
        return _outputs(self._ask("POST", f"{_path(ref)}/infer", body, {_HEAD_LENGTH: str(len(head))}, timeout_s))

    def _signature(self, ref: Ref, timeout_s: float) -> Signature:
        found = self._signatures.get(ref)
        if found is None:
            told = json.loads(self._ask("GET", _path(ref), None, {}, timeout_s).body)
            found = Signature(tuple(TensorSpec(one["name"], one["datatype"], tuple(one["shape"])) for one in told["inputs"]))
            self._signatures[ref] = found
        return found

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float) -> Reply:
        token = self._token()
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        if body is not None:
            sent["Content-Type"] = "application/octet-stream"
        try:
            reply = self._transport.send(method, path, body, sent, timeout_s, can_repeat=True)
        except UnavailableError as error:
            hint = "`fabric model list` says what is served; ModelRegistry(serving=URL) names another address"
            raise UnavailableError(f"no models answer at {self._address()}", hint=hint) from error
        if reply.status >= 300:
            raise _refusal(reply)
        return reply


def _path(ref: Ref) -> str:
    version = "" if ref.word == LATEST else f"/versions/{quote(ref.word, safe='')}"
    return f"/v2/models/{quote(ref.name, safe='')}{version}"


def _outputs(reply: Reply) -> dict[str, Array]:
    head_bytes = int(reply.headers.get(_HEAD_LENGTH.lower(), len(reply.body)))
    head, offset = json.loads(reply.body[:head_bytes]), head_bytes
    found: dict[str, Array] = {}
    for one in head["outputs"]:
        name = str(one["name"])
        datatype, shape = checked_datatype(name, one["datatype"]), checked_shape(name, one["shape"])
        size = (one.get("parameters") or {}).get("binary_data_size")
        if size is None:
            array = read_data(name, datatype, shape, one["data"])
        else:
            array, offset = read_tensor(name, datatype, shape, reply.body[offset : offset + size]), offset + size
        found[name] = decoded(array) if datatype == "BYTES" else array
    return found


def _refusal(reply: Reply) -> FabricError:
    """`{"error": message, "code": …, "hint": …}`, as the serving address tells it."""
    try:
        told = json.loads(reply.body)
        message, code, hint = str(told["error"]), str(told.get("code", "refused")), told.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        return UnavailableError(f"HTTP {reply.status} from the serving address", hint="is it a fabric's?", status=reply.status)
    if reply.status == 404:
        return UnknownNameError(message, code=code, hint=hint)
    if reply.status in (401, 403, 409, 429):
        return RejectedError(message, code=code, hint=hint, retryable=reply.status == 429)
    if reply.status == 503:
        return UnavailableError(message, code=code, hint=hint)
    return ModelError(message, code=code, hint=hint) if reply.status < 500 else RuntimeFault(message, code=code, hint=hint)
