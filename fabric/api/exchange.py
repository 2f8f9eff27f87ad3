"""What every request goes through: whose token it bears, a body within its limit, work in a thread, an answer in JSON.

Invariants: nothing is done for a request without a good token; a body that is too large is not read to its end; an error of
ours becomes `{code, message, hint, context}` with its status, any other becomes 500 `bug` and tells nothing of the inside.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import IO, Any, TypeVar

import anyio.to_thread
import pydantic_core
from fastapi import Request
from starlette.responses import Response

from fabric.api.faults import error_json, status_of
from fabric.api.port import JobPlanePort, JobRef
from fabric.api.tokens import Principal, Tokens
from fabric.errors import BugError, FabricError, RejectedError, UnknownNameError, UserError
from fabric.job_form import JobView

T = TypeVar("T")
MAX_JSON_BYTES = 16 * 2**20
MAX_ARTEFACT_BYTES = 600 * 2**20
MAX_WAITING = 256
CHUNK_BYTES = 2**20
_log = logging.getLogger(__name__)


class Json(Response):
    """JSON by pydantic's own writer, which is several times as fast as the standard one; infinities become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return pydantic_core.to_json(content, inf_nan_mode="null")


class Exchange:
    """One app's plane, tokens and clock, with what all routes do alike. `now_s` is the wall clock."""

    def __init__(self, plane: JobPlanePort, tokens: Tokens, now_s: Callable[[], float]) -> None:
        self.plane = plane
        self.tokens = tokens
        self.now_s = now_s
        self._waiters = threading.Semaphore(MAX_WAITING)
        self._wait_threads: anyio.CapacityLimiter | None = None

    # -- who -----------------------------------------------------------------------------------------------------------------

    def who(self, request: Request) -> Principal:
        """Raises: UserError (`unauthorized`)."""
        who = self.tokens.principal(bearer(request))
        if self.tokens.is_use_due(who.token_id):
            # Written aside: a slow disk must not hold up the request, and not the loop that serves all others.
            asyncio.get_running_loop().run_in_executor(None, self.tokens.note_use, who.token_id)
        return who

    def seen(self, who: Principal, name_or_id: str) -> JobRef:
        """A job that `who` may see: an own one, or with the scope `read` one of its queues. Raises: UnknownNameError (`unknown_job`)."""
        try:
            found = self.plane.find(name_or_id)
        except UnknownNameError:
            raise unknown_job(name_or_id) from None
        if not can_see(who, found):  # as if it were not there
            raise unknown_job(name_or_id)
        return found

    def held(self, who: Principal, name_or_id: str) -> JobRef:
        """A job that `who` may act on, and whose output it may read: an own one, or with the scope `operate` one of its queues.

        Raises: UnknownNameError (`unknown_job`), RejectedError (`forbidden`).
        """
        found = self.seen(who, name_or_id)
        if found.user != who.user:
            who.must("operate")
        return found

    # -- bodies --------------------------------------------------------------------------------------------------------------

    async def body(self, request: Request, limit_bytes: int = MAX_JSON_BYTES) -> bytes:
        """Raises: UserError (`too_large`)."""
        _must_fit(request.headers, limit_bytes)
        return await read_body(request, limit_bytes)

    async def spooled(self, request: Request, limit_bytes: int = MAX_ARTEFACT_BYTES) -> IO[bytes]:
        """The body as a file, on disk where it is large; close it. Raises: UserError (`too_large`)."""
        _must_fit(request.headers, limit_bytes)
        file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=CHUNK_BYTES)  # noqa: SIM115 (who called closes it)
        try:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                await anyio.to_thread.run_sync(file.write, chunk)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    async def passed_on(self, request: Request, into: Callable[[], AbstractContextManager[Callable[[bytes], object]]], most: int) -> None:
        """The body, piece by piece, to what the context gives, however large it is: nothing of it is kept here. The context ends badly
        where the body does. Raises: UserError (`too_large`), and what the context raises."""
        _must_fit(request.headers, most)
        stack, waiting, size = ExitStack(), bytearray(), 0
        write = await anyio.to_thread.run_sync(lambda: stack.enter_context(into()))
        try:
            async for chunk in request.stream():
                waiting += chunk
                size += len(chunk)
                if size > most:
                    raise too_large(most)
                if len(waiting) >= CHUNK_BYTES:
                    await anyio.to_thread.run_sync(write, bytes(waiting))
                    waiting.clear()
            await anyio.to_thread.run_sync(write, bytes(waiting))
        except BaseException as error:
            # Here, not in a thread: a request that is cancelled may wait for nothing more.
            stack.__exit__(type(error), error, error.__traceback__)
            raise
        await anyio.to_thread.run_sync(stack.close)

    # -- answers -------------------------------------------------------------------------------------------------------------

    async def run(self, work: Callable[[], T]) -> T:
        """Work that may wait for a lock or the disk, in a thread."""
        return await anyio.to_thread.run_sync(work)

    async def run_waiting(self, work: Callable[[], T]) -> T:
        """Work that waits for seconds, in threads of its own. Raises: RejectedError (`too_many_waiting`)."""
        if self._wait_threads is None:
            self._wait_threads = anyio.CapacityLimiter(MAX_WAITING)
        if not self._waiters.acquire(blocking=False):
            raise RejectedError(
                "too many requests wait already", code="too_many_waiting", hint="ask again", retryable=True, retry_after_s=1.0
            )
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._wait_threads)
        finally:
            self._waiters.release()


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """All of a body, however it is sent. Raises: UserError (`too_large`)."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        parts.append(chunk)
    return b"".join(parts)


def bearer(request: Request) -> str:
    """The token that a request bears. Raises: UserError (`unauthorized`)."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        hint = "send the header Authorization: Bearer and a token; `fabric token create` makes one"
        raise UserError("a token is needed", code="unauthorized", hint=hint)
    return token.strip()


def can_see(who: Principal, job: JobRef | JobView) -> bool:
    return job.user == who.user or ("read" in who.scopes and who.reaches(job.queue))


def unknown_job(name_or_id: str) -> UnknownNameError:
    hint = "`fabric queue` lists jobs; a job is named by its name, its id, or the last 8 digits of that"
    return UnknownNameError(f"unknown job {name_or_id!r}", code="unknown_job", hint=hint, name=name_or_id)


def too_large(limit_bytes: int) -> UserError:
    hint = "keep large data at a URL, and name what a job does not need in .gitignore"
    return UserError(f"the body is larger than {limit_bytes / 2**20:,.0f} MiB", code="too_large", hint=hint, limit_bytes=limit_bytes)


def refused(error: FabricError) -> Json:
    """The answer that an error becomes."""
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RejectedError) and error.retry_after_s is not None:
        headers["Retry-After"] = f"{error.retry_after_s:g}"
    if status >= 500:
        _log.error("refused code=%s message=%r", error.code, error.message)
    return Json(error_json(error), status_code=status, headers=headers)


async def on_fabric_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FabricError)
    return refused(error)


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


async def on_any_error(request: Request, error: Exception) -> Response:
    _log.error("bug method=%s path=%s", request.method, request.url.path, exc_info=error)
    return refused(
        BugError(f"the fabric failed at {request.method} {request.url.path}", hint="its log has the traceback; please report it")
    )


def _must_fit(headers: Mapping[str, str], limit_bytes: int) -> None:
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit_bytes:
        raise too_large(limit_bytes)
