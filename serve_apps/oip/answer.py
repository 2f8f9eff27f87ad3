"""One answer of the app, whole: its status, its headers, the parts of its body; and how it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from fabric.errors import FabricError
from serve_apps.oip.statuses import code_of, message_of, retry_after_s, status_of
from serve_apps.oip.tensor_bytes import Buffer

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
OCTETS: Header = (b"content-type", b"application/octet-stream")
EVENTS: Header = (b"content-type", b"text/event-stream; charset=utf-8")


@dataclass(slots=True)
class Answer:
    """`units`, `version`: for the usage record."""

    status: int
    headers: list[Header]
    parts: list[Buffer]
    units: int = 0
    version: str = ""


@dataclass(slots=True)
class Stream:
    """An answer whose body comes in chunks."""

    headers: list[Header]
    chunks: AsyncGenerator[bytes]
    version: str = ""


async def send_answer(send: Send, answer: Answer, *, is_head: bool = False) -> None:
    length = sum(map(len, answer.parts))
    headers = [*answer.headers, (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if is_head or not length:
        await send({"type": "http.response.body", "body": b""})
        return
    last = len(answer.parts) - 1
    for i, part in enumerate(answer.parts):
        await send({"type": "http.response.body", "body": part, "more_body": i < last})


async def send_stream(send: Send, receive: Receive, stream: Stream) -> None:
    """Nothing is sent before there is a first chunk: what is raised until then can still be answered. Ends when the caller goes away."""
    async with aclosing(stream.chunks) as chunks:
        chunk = await anext(chunks, None)
        await send({"type": "http.response.start", "status": 200, "headers": stream.headers})
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while chunk is not None and not gone.done():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(chunks, None)
        finally:
            gone.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def json_answer(form: Any, status: int = 200) -> Answer:
    return Answer(status, [JSON], [orjson.dumps(form, option=orjson.OPT_SERIALIZE_NUMPY)])


def error_answer(error: BaseException) -> Answer:
    """`{"error": message, "code": …, "hint"?: …}`; `Retry-After` where a later try may work."""
    answer = json_answer(error_form(error), status_of(error).http)
    wait_s = retry_after_s(error)
    if wait_s is not None:
        answer.headers.append((b"retry-after", b"%d" % wait_s))
    if answer.status == 401:
        answer.headers.append((b"www-authenticate", b"Bearer"))
    return answer


def error_form(error: BaseException) -> dict[str, str]:
    form = {"error": message_of(error), "code": code_of(error)}
    if isinstance(error, FabricError) and error.hint:
        form["hint"] = error.hint[:400]
    return form
