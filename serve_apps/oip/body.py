"""The body of a request: counted as it comes, refused before it is held, decompressed within a bound."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from fabric.errors import UserError
from serve_apps.oip.answer import Receive
from serve_apps.oip.hooks import Limits
from serve_apps.oip.tensor_bytes import Buffer

_HEADER_LENGTH = b"inference-header-content-length"
_WINDOW = {b"gzip": 31, b"deflate": 15}
"""zlib's `wbits`: gzip's format, and zlib's own, which HTTP calls deflate."""


class ClientGone(Exception):
    """The caller went away before its request was whole."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limits: Limits, *, limit: int | None = None) -> bytes:
    """The whole body, decompressed. `limit`: in bytes, `limits.body_bytes` if None.

    Raises: UserError (`too_large`, `unsupported_encoding`, `bad_encoding`), ClientGone.
    """
    parts = await _read_parts(receive, headers, limits, limits.body_bytes if limit is None else limit)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_split_body(receive: Receive, headers: Mapping[bytes, bytes], limits: Limits) -> tuple[bytes, bytes, bool]:
    """The JSON, the binary tensors after it, and whether there is no JSON at all: a raw request.

    The tensors are copied once, to where the first of them is aligned. Raises: as `read_body`, UserError (`bad_header`).
    """
    parts = await _read_parts(receive, headers, limits, limits.body_bytes)
    claimed = headers.get(_HEADER_LENGTH)
    total = sum(map(len, parts))
    length = total if claimed is None else int(claimed) if claimed.isdigit() and len(claimed) < 16 else -1
    if not 0 <= length <= total:
        raise UserError(f"Inference-Header-Content-Length is not a length within the body of {total} bytes", code="bad_header")
    if length > limits.json_bytes:
        raise UserError(f"the JSON is over {limits.json_bytes} bytes", code="too_large", hint="send large tensors as binary data")
    if claimed is None:
        return parts[0] if len(parts) == 1 else b"".join(parts), b"", False
    if len(parts[0]) < length:
        parts = [b"".join(parts)]
    return parts[0][:length], b"".join([parts[0][length:], *parts[1:]]), length == 0


async def _read_parts(receive: Receive, headers: Mapping[bytes, bytes], limits: Limits, most: int) -> list[bytes]:
    claimed = headers.get(b"content-length", b"")
    if claimed.isdigit() and (len(claimed) > 18 or int(claimed) > most):
        raise _too_large(most)
    parts: list[bytes] = []
    total, is_more = 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        total += len(part)
        if total > most:
            raise _too_large(most)
        parts.append(part)
        is_more = message.get("more_body", False)
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding and encoding != b"identity":
        return [await _decompressed(b"".join(parts), encoding, limits.decompressed_bytes)]
    return parts


def _too_large(most: int) -> UserError:
    return UserError(f"the body is over {most} bytes", code="too_large")


async def _decompressed(body: bytes, encoding: bytes, most: int) -> bytes:
    window = _WINDOW.get(encoding)
    if window is None:
        raise UserError(
            f"content encoding {encoding.decode('latin-1')[:40]!r} is not supported",
            code="unsupported_encoding",
            hint="use gzip or deflate",
        )
    # In a thread: zlib lets the others run meanwhile.
    return await asyncio.get_running_loop().run_in_executor(None, decompress, body, window, most)


def decompress(body: bytes, window: int, most: int) -> bytes:
    """Raises: UserError (`bad_encoding`, `too_large`)."""
    reader = zlib.decompressobj(window)
    try:
        content = reader.decompress(body, most + 1)
    except zlib.error:
        raise UserError("the body is not compressed as Content-Encoding says", code="bad_encoding") from None
    if len(content) > most:
        raise UserError(f"the body is over {most} bytes once it is decompressed", code="too_large")
    if not reader.eof or reader.unused_data:
        raise UserError("the compressed body is not whole, or more than one", code="bad_encoding")
    return content


def compress(parts: list[Buffer], encoding: bytes) -> bytes:
    writer = zlib.compressobj(level=1, wbits=_WINDOW[encoding])
    return b"".join([*(writer.compress(part) for part in parts), writer.flush()])


def wanted_encoding(headers: Mapping[bytes, bytes]) -> bytes:
    """`gzip` or `deflate` where `Accept-Encoding` names just that one, else empty.

    A list of several is what HTTP libraries send by default; compressing tensors for them would cost more than it saves.
    """
    accepted = headers.get(b"accept-encoding")
    if not accepted:
        return b""
    encoding = accepted.split(b";")[0].strip().lower()
    return encoding if encoding in _WINDOW and b"," not in accepted else b""
