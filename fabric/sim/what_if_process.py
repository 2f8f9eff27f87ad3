"""The process that answers one what-if: reads the journal, simulates both sides, and tells how far it is.

One JSON line comes on stdin, and its end is that of this process: whoever asked has gone. Lines on stdout are `{"progress": 0.4}`, then
`{"answer": {…}}` or `{"error": {code, message, hint}}`. It gives way to everything else on its machine, and stays within its memory.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

NICE = 15
EVERY_S = 0.25


def main() -> None:
    os.nice(NICE)
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_asker, daemon=True).start()
    try:
        _limit_memory(int(asked["memory_bytes"]))
        told = {"answer": _answered(asked)}
    except MemoryError:
        told = {"error": _error("out_of_memory", "the jobs do not fit into its memory", "ask for a shorter time")}
    except Exception as error:  # whatever it is, whoever asked is told
        told = {"error": _told(error)}
    _tell(told)


def _limit_memory(most_bytes: int) -> None:
    """No more than it may have already."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _answered(asked: Mapping[str, Any]) -> dict[str, Any]:
    from fabric import codec
    from fabric.policy import Policy
    from fabric.sim.replay import recorded
    from fabric.sim.what_if import Question, compare
    from fabric.types import Flavor, Node

    question = Question(
        {name: codec.decode(Flavor, flavor) for name, flavor in asked["catalogue"].items()},
        [codec.decode(Node, node) for node in asked["nodes"]],
        codec.decode(Policy, asked["current"]),
        codec.decode(Policy, asked["proposed"]),
    )
    # A process that gives way must not hold the journal's lock meanwhile.
    was = recorded(asked["journal_url"], asked["since_s"], catalogue=question.catalogue, most_jobs=asked["most_jobs"], is_aside=True)
    return compare(was, question, _Progress())


class _Progress:
    """Tells it a few times a second at most."""

    def __init__(self) -> None:
        self._last_s = 0.0

    def __call__(self, frac: float) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= EVERY_S:
            self._last_s = now_s
            _tell({"progress": frac})


def _told(error: Exception) -> dict[str, Any]:
    from fabric.errors import FabricError

    if isinstance(error, FabricError):
        return _error(error.code, error.message, error.hint)
    return _error("bug", f"{type(error).__name__}: {error}", "please report it")


def _error(code: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": hint}


def _tell(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_with_asker() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
