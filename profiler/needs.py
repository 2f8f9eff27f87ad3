"""What the calls of one variant needed of memory: measured runs, and what ran out, each with the size of its input.

Invariants: a call that ran out of memory raises the least of all calls with inputs as large or larger, and of no smaller one; once such
a call has succeeded, that least is what it needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric.sizes import size_step

MAX_RUNS = 128
KNOWN_MARGIN = 1.05
BEYOND = 1.15
"""What ran out of memory is taken to need so many times what it ran out of, until it is known."""
SAME_FRAC = 0.97
"""A run that held nearly as much as one of its size that ran out is taken for its retry: two readings differ a little."""
LEAST_REQUEST_BYTES = 128 * 2**20
"""An idle Ray worker holds about as much."""


class Use(NamedTuple):
    """What one run used: CPUs on average; of its cards, where it had any that say so, their mean use (0..1) and the memory it held."""

    cpus: float
    gpu_frac: float | None = None
    gpu_bytes: int | None = None


@dataclass(slots=True)
class Needs:
    """What the calls of one variant needed: (input bytes, peak bytes) of the last `MAX_RUNS` runs, oldest first, and floors: step of
    the size -> (what such a call ran out of, what it then needed or 0)."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    floors: dict[int, tuple[int, int]] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    """Of the last `MAX_RUNS` runs that were long enough to tell."""

    def add(self, input_bytes: int, peak_bytes: int) -> None:
        """A call has succeeded. `input_bytes` is -1 where it is not known."""
        self.runs.append((input_bytes, peak_bytes))
        del self.runs[:-MAX_RUNS]
        step = size_step(input_bytes)
        failed_bytes, needed_bytes = self.floors.get(step, (0, 0))
        if 0 < failed_bytes * SAME_FRAC <= peak_bytes:
            self.floors[step] = (failed_bytes, max(needed_bytes, peak_bytes))

    def add_use(self, use: Use) -> None:
        self.uses.append(use)
        del self.uses[:-MAX_RUNS]

    def add_oom(self, input_bytes: int, asked_bytes: int, used_bytes: int) -> None:
        """A call ran out of memory: with `asked_bytes` (0: it had asked for none) and, as far as seen, `used_bytes`."""
        step = size_step(input_bytes)
        failed_bytes, needed_bytes = self.floors.get(step, (0, 0))
        failed_bytes = max(failed_bytes, asked_bytes, used_bytes, 0 if asked_bytes else LEAST_REQUEST_BYTES)
        self.floors[step] = (failed_bytes, needed_bytes if needed_bytes > failed_bytes else 0)

    def points(self) -> list[tuple[int, int]]:
        """(input bytes, bytes) of all runs, and of what ran out and has not been seen to succeed: it needed more than that."""
        return self.runs + [(size, round(failed * BEYOND)) for size, (failed, needed) in self.floors.items() if not needed]

    def floor_bytes(self, input_bytes: int, most_bytes: int) -> int:
        """The least that a call of this size asks for, after those out of memory with inputs no larger; 0 where there was none."""
        least, step = 0, size_step(input_bytes)
        for size, (failed_bytes, needed_bytes) in self.floors.items():
            if size <= step or input_bytes < 0:
                known = math.ceil(max(needed_bytes, failed_bytes) * KNOWN_MARGIN) if needed_bytes else 0
                least = max(least, known or _more_than(failed_bytes, most_bytes))
        return least


def _more_than(failed_bytes: int, most_bytes: int) -> int:
    """Twice what did not do, but no more than the largest node has, while that is more."""
    return min(2 * failed_bytes, most_bytes) if failed_bytes < most_bytes else 2 * failed_bytes
