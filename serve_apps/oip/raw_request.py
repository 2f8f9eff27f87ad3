"""A body that is one tensor and nothing else: its name, datatype and shape are the model's.

For a model with one input of at most one free size; where it has a batch dimension, the batch is of one. All outputs come back
binary. Source: Triton's binary extension, "Raw Binary Request".
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from fabric.errors import UserError
from serve_apps.oip import schedule
from serve_apps.oip.tensor_bytes import Buffer, objects, read_tensor
from serve_apps.tensors import DTYPES, InferRequest, ModelMetadata, Tensor, TensorSpec


def read_raw_request(metadata: ModelMetadata, version: str, body: Buffer, headers: Mapping[bytes, bytes]) -> InferRequest:
    """Raises: UserError (`bad_raw_request`, `wrong_data_size`)."""
    if len(metadata.inputs) != 1:
        raise UserError(f"model {metadata.name!r} has {len(metadata.inputs)} inputs: a raw request is for one", code="bad_raw_request")
    spec = metadata.inputs[0]
    sizes = list(spec.shape)
    if metadata.max_batch_size > 0 and sizes:
        sizes[0] = 1
    if sizes.count(-1) > 1:
        raise UserError(f"{spec}: a raw request is for an input of at most one free size", code="bad_raw_request")
    tensor = _one_element(spec, sizes, body) if spec.datatype == "BYTES" else _numbers(spec, sizes, body)
    return InferRequest(metadata.name, (tensor,), version, deadline_s=schedule.deadline_s({}, headers, now_s=time.monotonic()))


def _one_element(spec: TensorSpec, sizes: list[int], body: Buffer) -> Tensor:
    shape = tuple(abs(size) for size in sizes)
    if math.prod(shape) != 1:
        raise UserError(f"{spec}: a raw request of BYTES is for an input of shape [1]", code="bad_raw_request")
    return Tensor(spec.name, "BYTES", objects([bytes(body)], shape))


def _numbers(spec: TensorSpec, sizes: list[int], body: Buffer) -> Tensor:
    known = math.prod(size for size in sizes if size >= 0)
    count = len(body) // DTYPES[spec.datatype].itemsize
    shape = tuple(count // known if size < 0 and known else max(0, size) for size in sizes)
    return Tensor(spec.name, spec.datatype, read_tensor(spec.name, spec.datatype, shape, body))
