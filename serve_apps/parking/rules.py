"""The figures by which a lot of parked processes decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ModelVersion(NamedTuple):
    """One version of a model."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Rules:
    """`num_cpus`: adopted processes at most; `max_parked`: parked ones at most.

    `idle_s`: an adopted process without requests leaves. `ask_after_s`, `ask_at_in_flight`: Serve is asked for a replica once
    requests have come for so long, or so many at once; again after `ask_again_s`. `wait_s`: how long a request waits for a process.
    `backoff_s`: after the first failure of a model, doubling to `most_backoff_s`; forgotten after `sound_after_s` of life.
    `settle_s`: how long after a wake nothing is forked. `linger_s`: how long a leaving process still takes requests, for whoever routes
    to it and has not heard; `drain_s`: how long it may then go on answering.
    """

    num_cpus: int = 1
    max_parked: int = 2
    idle_s: float = 60.0
    ask_after_s: float = 10.0
    ask_at_in_flight: int = 4
    ask_again_s: float = 60.0
    wait_s: float = 5.0
    backoff_s: float = 0.5
    most_backoff_s: float = 60.0
    sound_after_s: float = 60.0
    settle_s: float = 0.3
    linger_s: float = 0.5
    drain_s: float = 30.0
