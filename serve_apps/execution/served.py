"""One model version as the data plane sees it: requests are read, answered from the cache or by the runner, and counted."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fabric.errors import FabricError, ModelError, RejectedError, UserError
from serve_apps.execution.cache import ResponseCache, bytes_of, digest_of
from serve_apps.execution.lanes import Lane
from serve_apps.execution.runner import Runner
from serve_apps.execution.statistics import Statistics
from serve_apps.execution.target import Target, as_model_error
from serve_apps.serve_options import ServeOptions
from serve_apps.shadow_call import is_shadow
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata, Tensor

# Serve's own logger: what it receives in a replica lands in that replica's log.
log = logging.getLogger("ray.serve")

MAX_SHADOWS = 8
"""A shadow copy is refused where so many requests are in flight: none of others' may meet a queue that copies have filled."""


class Served:
    """A `ServedModel` over any callable. `lane`: the threads that built it."""

    def __init__(self, target: Target, metadata: ModelMetadata, version: str, options: ServeOptions, lane: Lane) -> None:
        self.metadata, self.version, self.options = metadata, version, options
        self._target, self._lane, self._signature = target, lane, target.signature
        self._statistics = Statistics()
        self._runner = Runner(target, options, lane, self._statistics)
        has_cache = options.cache_bytes > 0 and not target.manner.is_stream
        self._cache = ResponseCache(options.cache_bytes, options.cache_ttl_s) if has_cache else None
        self._is_closing = False

    @property
    def is_ready(self) -> bool:
        return not self._is_closing

    @property
    def num_ongoing(self) -> int:
        """Requests that wait, and calls that run."""
        return self._runner.num_ongoing

    def latency_s(self, frac: float) -> float:
        """A quantile of the last answers' times, queue included: `latency_s(0.95)`."""
        return self._statistics.latency_s(frac)

    def tell(self, listener: Callable[[float, float, float], None]) -> None:
        """`listener(now_s, latency_s, service_s)` hears of every answer from now on, on the event loop; it must not wait."""
        self._statistics.listener = listener

    def batch_counts(self) -> dict[str, float]:
        """Since it was loaded: `executions` of the model, and the `rows` that they had together."""
        return {"executions": float(self._statistics.execution_count), "rows": float(self._statistics.inference_count)}

    def statistics(self) -> Mapping[str, Any]:
        """One entry of Triton's `model_stats`."""
        return self._statistics.shown(self.metadata.name, self.version)

    async def infer(self, request: InferRequest) -> InferResponse:
        """One answer. Raises: see `ServedModel.infer`."""
        if self._target.manner.is_stream:
            return await self._only_answer(request)
        came_s = time.perf_counter()
        try:
            self._check_open()
            digest = None
            if self._cache is not None and not is_shadow():
                digest, kept = self._look_up(request)
                if kept is not None:
                    return self._response(request, kept)
            arguments = self._signature.arguments(request)
            read_s = time.perf_counter()
            answer = await self._runner.run(arguments, request.priority, self._deadline_s(request.deadline_s))
            ran_s = time.perf_counter()
            outputs = self._signature.tensors(answer.result, request)
            if self._cache is not None and digest is not None:
                self._cache.put(digest, outputs, bytes_of(outputs), time.monotonic())
        except Exception as error:
            raise self._told(error, came_s) from error.__cause__
        end_s = time.perf_counter()
        joined_s, run_s, split_s = answer.times_s
        self._statistics.note_success(end_s - came_s, answer.queue_s, (joined_s + read_s - came_s, run_s, split_s + end_s - ran_s))
        return self._response(request, outputs)

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """All answers to one request. Raises: as `infer`, also between two answers."""
        if not self._target.manner.is_stream:
            yield await self.infer(request)
            return
        came_s = time.perf_counter()
        try:
            self._check_open()
            arguments = self._signature.arguments(request)
            source = self._runner.stream(arguments, request.priority, self._deadline_s(request.deadline_s))
            try:
                async for item in source:
                    yield self._response(request, self._signature.tensors(item, request))
            finally:
                await source.aclose()  # type: ignore[attr-defined]
        except Exception as error:
            raise self._told(error, came_s) from error.__cause__
        times_s = (0.0, time.perf_counter() - came_s, 0.0)
        self._statistics.note_call(1, times_s)
        self._statistics.note_success(times_s[1], 0.0, times_s)

    async def call(self, arguments: Mapping[str, Any], *, priority: int = 0, deadline_s: float = math.inf) -> Any:
        """The plain dialect and Python's remote `predict`: arguments by name, the result as `predict` gave it, a stream's as a list.

        Raises: what `predict` raised, as it was; `RejectedError` and `ModelError` as `infer`.
        """
        came_s = time.perf_counter()
        try:
            self._check_open()
            given = self._signature.from_json(arguments)
            deadline_s = self._deadline_s(deadline_s)
            if self._target.manner.is_stream:
                return [item async for item in self._runner.stream(given, priority, deadline_s)]
            answer = await self._runner.run(given, priority, deadline_s)
        except Exception:
            self._statistics.note_failure(time.perf_counter() - came_s)
            raise
        self._statistics.note_success(time.perf_counter() - came_s, answer.queue_s, answer.times_s)
        return answer.result

    async def close(self) -> None:
        """Refuse new requests, finish those that wait or run, free the model."""
        if self._is_closing:
            return
        self._is_closing = True
        await self._runner.drain()
        await asyncio.get_running_loop().run_in_executor(None, self._free)

    def _free(self) -> None:
        try:
            self._lane.build(self._target.close)
        except Exception:
            log.exception("closing failed model=%s version=%s", self.metadata.name, self.version)
        self._lane.stop()

    async def _only_answer(self, request: InferRequest) -> InferResponse:
        """The one answer of a model that streams; text comes in pieces that belong together."""
        items = [item async for item in self.stream(request)]
        if len(items) == 1:
            return items[0]
        name = self.metadata.text_output
        if items and name:
            texts = [next(tensor for tensor in item.outputs if tensor.name == name) for item in items]
            texts[0].array[0] = b"".join(text.array[0] for text in texts)
            return InferResponse(self.metadata.name, self.version, (texts[0],), request.id)
        raise ModelError(f"the model gave {len(items)} answers", code="many_answers", hint="ask for a stream")

    def _look_up(self, request: InferRequest) -> tuple[bytes, tuple[Tensor, ...] | None]:
        assert self._cache is not None
        start_s = time.perf_counter()
        digest = digest_of(request)
        kept = self._cache.get(digest, time.monotonic())
        self._statistics.durations["cache_miss" if kept is None else "cache_hit"].add(time.perf_counter() - start_s)
        return digest, kept

    def _response(self, request: InferRequest, outputs: tuple[Tensor, ...]) -> InferResponse:
        return InferResponse(self.metadata.name, self.version, outputs, request.id)

    def _deadline_s(self, asked_s: float) -> float:
        limit_s = self.options.request_timeout_s
        return asked_s if asked_s < math.inf or limit_s == math.inf else time.monotonic() + limit_s

    def _check_open(self) -> None:
        if self._is_closing:
            raise RejectedError(
                f"{self.metadata.name} {self.version} is being unloaded", code="unloading", retryable=True, retry_after_s=1.0
            )
        if is_shadow():
            self._check_shadow()

    def _check_shadow(self) -> None:
        if self.metadata.has_side_effects:
            raise UserError(f"{self.metadata.name} has side effects: it takes no shadow copies", code="has_side_effects")
        if self.num_ongoing >= MAX_SHADOWS:
            raise RejectedError("no shadow copies now", code="queue_full", retryable=True, retry_after_s=1.0)

    def _told(self, error: Exception, came_s: float) -> FabricError:
        """The error as protocols know it; what the service did not mean to raise is logged with its traceback."""
        self._statistics.note_failure(time.perf_counter() - came_s)
        told = as_model_error(error)
        if told is not error:
            log.error("predict failed model=%s version=%s", self.metadata.name, self.version, exc_info=error)
        return told
