"""The classification extension: an output as its n greatest values, each as the text `value:index`.

Source: Triton's classification extension. We have no labels, which would follow the index.
"""

from __future__ import annotations

from dataclasses import replace

import numpy

from fabric.errors import UserError
from serve_apps.oip.tensor_bytes import objects
from serve_apps.tensors import Array, InferResponse, RequestedOutput, Tensor


def number_of_classes(output: RequestedOutput) -> int:
    """0 where none are asked for. Raises: UserError (`bad_parameter`)."""
    count = output.parameters.get("classification", 0)
    if type(count) is not int or not 0 <= count < 2**31:
        raise UserError(f"output {output.name!r}: classification is a number of classes", code="bad_parameter")
    return count


def classified(tensor: Tensor, count: int, *, is_batched: bool) -> Tensor:
    """`BYTES[count]`, or `BYTES[batch, count]`, of a tensor of numbers. Raises: UserError (`bad_parameter`) for one of bytes."""
    if tensor.datatype in ("BYTES", "BF16"):
        raise UserError(f"output {tensor.name!r} is {tensor.datatype} and has no classes", code="bad_parameter")
    rows = tensor.array.reshape(tensor.array.shape[0], -1) if is_batched and tensor.array.ndim else tensor.array.reshape(1, -1)
    texts = [text for row in rows for text in _greatest(row, count)]
    count = min(count, rows.shape[1])
    shape = (len(rows), count) if is_batched and tensor.array.ndim else (count,)
    return replace(tensor, datatype="BYTES", array=objects(texts, shape))


def _greatest(row: Array, count: int) -> list[bytes]:
    # Stable, so that of equal values the first comes first.
    order = numpy.argsort(-row.astype(numpy.float64), kind="stable")[:count]
    form = "{:f}:{}" if row.dtype.kind == "f" else "{}:{}"
    return [form.format(value, index).encode() for value, index in zip(row[order].tolist(), order.tolist(), strict=True)]


def classify(response: InferResponse, outputs: tuple[RequestedOutput, ...], *, is_batched: bool) -> InferResponse:
    """`response` with the outputs classified for which a request asks that. Raises: UserError (`bad_parameter`)."""
    counts = {output.name: number_of_classes(output) for output in outputs if output.parameters}
    if not any(counts.values()):
        return response
    tensors = tuple(
        classified(tensor, counts[tensor.name], is_batched=is_batched) if counts.get(tensor.name) else tensor for tensor in response.outputs
    )
    return replace(response, outputs=tensors)
