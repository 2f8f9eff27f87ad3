"""Reads the outputs that stand in an answer, of whichever dialect it is: arrays by name."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy
import orjson

from serve_apps.oip.protobuf_codec import read_response
from serve_apps.oip.tensor_bytes import objects, read_tensor
from serve_apps.tensors import DTYPES, Array

_ANY_WINDOW = 47
"""zlib finds out itself whether it is gzip or deflate."""
_NO_OUTPUTS = frozenset({"id", "model_name", "model_version", "parameters"})


def outputs_of(kind: str, headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Array]:
    """`kind`: of the route that answered. Raises: ValueError and its kin where the body is no such answer."""
    if kind.startswith("grpc_"):
        return {tensor.name: tensor.array for tensor in read_response(body).outputs}
    if b"content-encoding" in headers:
        body = zlib.decompress(body, _ANY_WINDOW)
    if kind != "infer":
        return {name: _array(value) for name, value in orjson.loads(body).items() if name not in _NO_OUTPUTS}
    length = int(headers.get(b"inference-header-content-length", len(body)))
    return _of_infer(orjson.loads(body[:length]), body[length:])


def _of_infer(document: Mapping[str, Any], binary: bytes) -> dict[str, Array]:
    found: dict[str, Array] = {}
    at = 0
    for one in document["outputs"]:
        name, datatype, shape = one["name"], one["datatype"], tuple(one["shape"])
        size = one.get("parameters", {}).get("binary_data_size")
        if size is not None:
            found[name] = read_tensor(name, datatype, shape, binary[at : at + size])
            at += size
        elif datatype == "BYTES":
            found[name] = objects(one["data"], shape)
        else:
            # null, which stands for what JSON does not have, becomes NaN.
            found[name] = numpy.array(one["data"], dtype=DTYPES[datatype]).reshape(shape)
    return found


def _array(value: Any) -> Array:
    """A value of JSON: numbers, flat or nested, as an array of them; anything else as one element."""
    try:
        array: Array = numpy.asarray(value)
    except ValueError:  # ragged
        array = numpy.empty((), object)
    if array.dtype.kind in "fib":
        return array
    return objects([orjson.dumps(value, option=orjson.OPT_SORT_KEYS)], (1,))
