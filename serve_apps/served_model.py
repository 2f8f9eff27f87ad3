"""The seam between what answers requests (the data plane) and what runs a model: one Protocol, implemented by `serve_apps.execution`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata


class ServedModel(Protocol):
    """One version of one model, loaded in this process. All methods are called on the server's event loop."""

    @property
    def metadata(self) -> ModelMetadata: ...

    @property
    def version(self) -> str: ...

    @property
    def is_ready(self) -> bool: ...

    async def infer(self, request: InferRequest) -> InferResponse:
        """Check the request against the signature, queue it, batch it, run it.

        Raises: `ModelError` (`wrong_dtype`, `wrong_shape`, `missing_input`, `unknown_input`, `unknown_output`, `inference_failed`, …),
        `RejectedError` (`queue_full` with `retry_after_s`, `deadline_exceeded`, `unloading`).
        """
        ...

    def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """All answers to one request, as they come. A model that does not stream gives one. Raises: as `infer`."""
        ...

    def statistics(self) -> Mapping[str, Any]:
        """Counts and nanoseconds in the form of Triton's statistics extension (`inference_stats`, `batch_stats`, …)."""
        ...

    async def close(self) -> None:
        """Refuse new requests, finish those that run, free the model."""
        ...
