"""The port to what can bring a model's replica to life: a parked process that adopts it, or Serve's first replica."""

from __future__ import annotations

from typing import Protocol

from fabric.errors import RejectedError
from serve_apps.gateway.routes import Address


class Waker(Protocol):
    """Implemented by the ingress."""

    async def wake(self, model: str, version: str) -> Address | None:
        """Return when a replica answers for `model` (its true name) and `version`: its address, or None if the table has it by now.

        Called once at a time for a version, however many requests wait; may be cancelled when none does.
        Raises: RejectedError (with `retry_after_s`), RuntimeFault.
        """
        ...


class NoWaker:
    """Where nothing can be woken: what has no replica is not available."""

    async def wake(self, model: str, version: str) -> Address | None:
        raise no_replica(model, version)


def no_replica(model: str, version: str, reason: str = "", retry_after_s: float = 1.0) -> RejectedError:
    """What a caller is told when nothing answers for a model: 503, and when to come back."""
    why = f": {reason}" if reason else ""
    return RejectedError(
        f"no replica answers for model {model!r} version {version}{why}",
        code="no_replica",
        retryable=True,
        retry_after_s=retry_after_s,
        hint=f"`fabric model show {model}` says how its replicas do",
    )
