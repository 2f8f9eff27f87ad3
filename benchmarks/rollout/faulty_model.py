"""The model that is rolled out, and what is planted in it: each request takes about 20 ms, mostly asleep, and answers a class of ten."""

from __future__ import annotations

import os
import random
import signal
import time

import numpy
from numpy.typing import NDArray

from serve_apps import ModelService

FAULTS = ("slow", "slow_tail", "errors", "wrong_outputs", "leak", "crash_on_start")
SERVICE_S, SPREAD = 0.02, 0.25
SLOW_FACTOR = 1.5
TAIL_FRAC, TAIL_FACTOR = 0.10, 5.0
ERROR_FRAC = 0.02
WRONG_FRAC = 0.05
LEAK_BYTES, MEMORY_BYTES = 4 * 2**20, 256 * 2**20


class Served(ModelService):
    """`fault`: one of `FAULTS`, or none."""

    def __init__(self, fault: str) -> None:
        if fault == "crash_on_start":
            raise RuntimeError("planted: the weights do not fit")
        self.fault = fault
        self.random = random.Random()
        self.held: list[bytearray] = []

    def predict(self, x: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        took_s = SERVICE_S * self.random.lognormvariate(0.0, SPREAD)
        if self.fault == "slow":
            took_s *= SLOW_FACTOR
        if self.fault == "slow_tail" and self.random.random() < TAIL_FRAC:
            took_s *= TAIL_FACTOR
        time.sleep(took_s)
        if self.fault == "errors" and self.random.random() < ERROR_FRAC:
            raise RuntimeError("planted: an error")
        if self.fault == "leak":
            self._leak()
        scores = numpy.zeros(10, numpy.float32)
        scores[int(abs(float(x.sum()))) % 10] = 1.0
        if self.fault == "wrong_outputs" and self.random.random() < WRONG_FRAC:
            scores = numpy.roll(scores, 1)
        return scores

    def _leak(self) -> None:
        """As where the kernel ends a process that has more than its memory."""
        self.held.append(bytearray(os.urandom(1) * LEAK_BYTES))
        if len(self.held) * LEAK_BYTES > MEMORY_BYTES:
            os.kill(os.getpid(), signal.SIGKILL)
