"""The seam between the API and what replays recorded jobs under another policy: a protocol, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class WhatIfPort(Protocol):
    """One runs at a time, for a bounded time, beside everything else."""

    def begin(self, document: str | Mapping[str, Any], since_s: float, by: str) -> str:
        """Replay the jobs of the last `since_s` seconds under the policy in force and under this one; its id.

        Raises: as `fabric.policy_document.read_policy`; RejectedError (`busy`, retryable), RuntimeFault (`closed`).
        """
        ...

    def shown(self, what_if_id: str) -> Mapping[str, Any]:
        """The form of `fabric.what_if_form`. Raises: UnknownNameError (`unknown_what_if`)."""
        ...

    def cancel(self, what_if_id: str) -> Mapping[str, Any]:
        """End one that runs; one that has ended stays as it is. Its form. Raises: as `shown`."""
        ...
