"""When nodes fail and come back: independent of each other, up for exponential times, away for a fixed one; seeded."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fabric.errors import ConfigError
from fabric.sim.engine import Failure

EXAMPLE = "mtbf_h=720,repair_s=600,checkpoint_s=1800"


@dataclass(frozen=True, slots=True)
class FailureModel:
    """`mtbf_h`: mean hours between failures of one node; `repair_s`: so long it is away; `checkpoint_s`: a job loses at most so
    much of its work with a node."""

    mtbf_h: float
    repair_s: float = 600.0
    checkpoint_s: float = 1800.0

    def draw(self, nodes: Iterable[str], seed: int) -> Iterator[Failure]:
        """Failures in the order of time, without end. One node's do not depend on how many others there are."""
        return heapq.merge(*(self._of(node, seed) for node in nodes), key=lambda failure: failure.at_s)

    def _of(self, node: str, seed: int) -> Iterator[Failure]:
        luck, at_s = random.Random(f"{seed}/{node}"), 0.0
        while True:
            at_s += luck.expovariate(1.0 / (self.mtbf_h * 3600.0))
            yield Failure(at_s, at_s + self.repair_s, node)
            at_s += self.repair_s


def parse_failures(text: str) -> FailureModel:
    """`mtbf_h=720,repair_s=600`. Raises: ConfigError `bad_failures`."""
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError:
            raise _bad(f"{part!r} is not name=number") from None
    unknown = set(values) - {"mtbf_h", "repair_s", "checkpoint_s"}
    if unknown or "mtbf_h" not in values:
        raise _bad(f"unknown {', '.join(sorted(unknown))}" if unknown else "mtbf_h is missing")
    if not all(0 < value < float("inf") for value in values.values()):
        raise _bad("every number must be above 0")
    return FailureModel(**values)


def _bad(message: str) -> ConfigError:
    return ConfigError(f"--failures: {message}", code="bad_failures", hint=f"like {EXAMPLE}")
