"""Puts copies of a replica's requests to the shadow's replicas, and compares the answers: after the caller has its own.

Invariants: nothing in a request's way waits for it; what does not fit its short queue, or comes while the replica is busy, is dropped and
counted; at most `MAX_WAITING` copies of at most `MAX_COPY_BYTES` are held.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fabric.errors import UnavailableError
from serve_apps.directory.requests import ShadowOrder
from serve_apps.directory.table import WHOLE
from serve_apps.gateway.heads import http_head
from serve_apps.gateway.replica_connection import Reply
from serve_apps.gateway.replica_pool import ReplicaPool
from serve_apps.gateway.routes import Address
from serve_apps.observer import Observer
from serve_apps.oip.answer import Answer, Header
from serve_apps.oip.inference import Call
from serve_apps.oip.tensor_bytes import Buffer
from serve_apps.shadow.compare import compare
from serve_apps.shadow.outputs import outputs_of
from serve_apps.shadow_call import SHADOW_HEADER

log = logging.getLogger("ray.serve")

MAX_WAITING = 32
MAX_COPY_BYTES = 2**20
"""Of a request and its answer together."""
BUSY = 8
"""Requests in flight above which the replica copies nothing."""
SHADOW_S = 5.0
"""What a shadow's answer may take."""
TOOK_HEADER = b"x-shadow-ms"
"""In its answer: how long the shadow itself took."""
_OFFLOADED_BYTES = 2**16

_COPIED = frozenset({b"authorization", b"content-type", b"inference-header-content-length", b"traceparent", b"tracestate"})
_KINDS = frozenset({"infer", "generate", "predict", "grpc_infer", "grpc_call"})


@dataclass(frozen=True, slots=True)
class _Copy:
    """A request, and the answer that it was given."""

    kind: str
    path: str
    headers: list[Header]
    parts: list[Buffer]
    answer_headers: Mapping[bytes, bytes]
    answer: bytes


class Mirror:
    """For one event loop, but for `order`, which any thread may replace. `num_ongoing()`: requests in flight here."""

    def __init__(
        self,
        observer: Observer,
        num_ongoing: Callable[[], int],
        pool: ReplicaPool | None = None,
        draw: Callable[[int], int] = random.randrange,
    ) -> None:
        self.order: ShadowOrder | None = None
        self._observer = observer
        self._num_ongoing = num_ongoing
        self._pool = pool or ReplicaPool()
        self._draw = draw
        self._waiting: deque[_Copy] = deque()
        self._sending: asyncio.Task[None] | None = None

    def offer(self, call: Call, answer: Answer) -> None:
        """A request that was answered well: whether it is copied, the draw says."""
        order = self.order
        if order is None or not order.replicas or call.route.kind not in _KINDS or self._draw(WHOLE) >= order.share:
            return
        size = sum(map(len, call.body)) + sum(map(len, answer.parts))
        if size > MAX_COPY_BYTES or len(self._waiting) >= MAX_WAITING or self._num_ongoing() > BUSY:
            self._observer.shadow_dropped()
            return
        self._waiting.append(_copy_of(call, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            copied, order = self._waiting.popleft(), self.order
            if order is None or not order.replicas:
                continue
            try:
                await self._put(copied, Address(*order.replicas[self._draw(len(order.replicas))]))
            except (UnavailableError, TimeoutError):
                self._observer.shadow_failed()
            except Exception:
                log.exception("a shadow copy failed kind=%s", copied.kind)
                self._observer.shadow_failed()

    async def _put(self, copied: _Copy, address: Address) -> None:
        head = http_head("POST", copied.path, b"", copied.headers, sum(map(len, copied.parts)))
        began_s = time.perf_counter()
        async with asyncio.timeout(SHADOW_S):
            reply = await self._asked(address, [head, *copied.parts])
        if reply.status in (429, 503, 504):  # it has enough to do
            self._observer.shadow_dropped()
        elif reply.status != 200:
            self._observer.shadow_failed()
        else:
            took = reply.header(TOOK_HEADER)
            latency_ms = float(took) if took is not None else 1e3 * (time.perf_counter() - began_s)
            # Large ones elsewhere: a thread takes turns with the loop, and requests that come meanwhile are not held up for as long.
            is_large = len(copied.answer) + len(reply.body) > _OFFLOADED_BYTES
            if is_large:
                await asyncio.get_running_loop().run_in_executor(None, self._compare, copied, reply, latency_ms)
            else:
                self._compare(copied, reply, latency_ms)

    async def _asked(self, address: Address, parts: list[Buffer]) -> Reply:
        connection = self._pool.idle(address) or await self._pool.connect(address)
        try:
            return await connection.ask(parts)
        finally:
            self._pool.give_back(address, connection)

    def _compare(self, copied: _Copy, reply: Reply, latency_ms: float) -> None:
        ours = outputs_of(copied.kind, copied.answer_headers, copied.answer)
        theirs = outputs_of(copied.kind, dict(reply.headers), reply.body)
        seen = compare(ours, theirs)
        self._observer.compared(latency_ms, seen.drift, agrees=seen.agrees)


def _copy_of(call: Call, answer: Answer) -> _Copy:
    """The answer is joined here, since the model may use its arrays again. No version is named: the shadow has its own."""
    kind, model = call.route.kind, call.route.model
    path = "/grpc/ModelInfer" if kind.startswith("grpc_") else f"/{model}/predict" if kind == "predict" else f"/v2/models/{model}/{kind}"
    headers = [(name, value) for name, value in call.headers.items() if name in _COPIED]
    headers += [(SHADOW_HEADER, b"1"), (b"x-request-timeout-ms", b"%d" % (1000 * SHADOW_S))]
    return _Copy(kind, path, headers, call.body, dict(answer.headers), b"".join(answer.parts))
