"""Decides which answers are kept for equal requests: the least recently used go first, old ones are not given out.

Keys are digests of the inputs' bytes, so equal inputs of another dtype or shape are other requests.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import Any

import numpy

from serve_apps.tensors import InferRequest, Tensor

_ENTRY_BYTES = 512
"""What an entry takes beside its arrays."""


class ResponseCache:
    """Digest -> outputs, at most `max_bytes` of them. An entry above a quarter of that is not kept: it would push out all others."""

    def __init__(self, max_bytes: int, ttl_s: float = math.inf) -> None:
        self._max_bytes, self._ttl_s = max_bytes, ttl_s
        self._entries: OrderedDict[bytes, tuple[float, int, Any]] = OrderedDict()
        self.used_bytes = 0

    def get(self, digest: bytes, now_s: float) -> Any | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if now_s - entry[0] >= self._ttl_s:
            self._remove(digest)
            return None
        self._entries.move_to_end(digest)
        return entry[2]

    def put(self, digest: bytes, answer: Any, num_bytes: int, now_s: float) -> None:
        """`num_bytes`: of the answer's arrays."""
        size = num_bytes + _ENTRY_BYTES
        if digest in self._entries:
            self._remove(digest)
        if size > self._max_bytes // 4:
            return
        self._entries[digest] = (now_s, size, answer)
        self.used_bytes += size
        while self.used_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, digest: bytes) -> None:
        self.used_bytes -= self._entries.pop(digest)[1]


def digest_of(request: InferRequest) -> bytes:
    """The same for requests of equal inputs, parameters and wanted outputs, whatever their order of inputs."""
    content = hashlib.blake2b(digest_size=16)
    for tensor in sorted(request.inputs, key=lambda one: one.name):
        array = tensor.array
        content.update(repr((tensor.name, tensor.datatype, array.shape)).encode())
        if array.dtype.kind == "O":
            for item in array.ravel().tolist():
                data = item if isinstance(item, bytes) else str(item).encode()
                content.update(len(data).to_bytes(8, "little"))
                content.update(data)
        else:
            content.update(numpy.ascontiguousarray(array).data.cast("B") if array.size else b"")
    content.update(repr((sorted(request.parameters.items()), [output.name for output in request.outputs])).encode())
    return content.digest()


def bytes_of(outputs: tuple[Tensor, ...]) -> int:
    """What the arrays take, the bytes of their texts included."""
    total = 0
    for tensor in outputs:
        total += tensor.array.nbytes
        if tensor.array.dtype.kind == "O":
            total += sum(len(item) for item in tensor.array.ravel().tolist())
    return total
