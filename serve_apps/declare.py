"""What a service may say of its `predict` beside plain types: the shape of an array, and that it takes batches.

Nothing here imports numpy: a driver that only defines a service does not need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Shape:
    """`Annotated[NDArray[np.float32], Shape(None, 16)]`: sizes of an array, None for any. With batches, axis 0 is the batch."""

    def __init__(self, *sizes: int | None) -> None:
        self.sizes: tuple[int, ...] = tuple(-1 if size is None else size for size in sizes)

    def __repr__(self) -> str:
        return f"Shape({', '.join('None' if size < 0 else str(size) for size in self.sizes)})"


def batched(*, max_batch_size: int, latency_budget_ms: float | None = None) -> Callable[[Function], Function]:
    """Marks a `predict` whose array and list arguments hold many requests' rows along axis 0, and whose result has as many rows.

    Other arguments (text, numbers, JSON) are passed as they are: only requests with equal ones share a batch.
    """

    def mark(function: Function) -> Function:
        declared = {"max_batch_size": max_batch_size, "latency_budget_ms": latency_budget_ms}
        function.__batched__ = declared  # type: ignore[attr-defined]
        return function

    return mark
