"""Loads for the autoscaler's benchmark, one figure per second, in replicas' worth of CPU (1.0: one replica at 100 %).

No recorded request load lies with the project's data, so the loads are recorded here: drawn from a seed, always the same. `shapes` is
the one that is really burnt; `diurnal`, `bursty`, `steps` and `noisy` are those of the virtual runs. `--trace` takes a file of
your own, one figure per line.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

LEAST, MOST = 1.3, 7.6
"""What 2 to 10 replicas can meet at 60 to 80 %."""


def shapes() -> list[float]:
    """210 s: steady, a step up, a ramp, a sine, a spike, and back down."""
    load = [1.5] * 20 + [3.6] * 30
    load += [3.6 + (6.8 - 3.6) * second / 45 for second in range(45)]
    load += [4.6 + 2.2 * math.cos(2 * math.pi * second / 80) for second in range(80)]
    load += [6.4] * 10 + [2.2] * 25
    return load


def diurnal(seed: int, seconds: int = 600) -> list[float]:
    """A day in ten minutes: two waves and a slow wander."""
    rng = random.Random(seed)
    phase, second_phase, wander = rng.uniform(0, 6.28), rng.uniform(0, 6.28), 0.0
    load = []
    for second in range(seconds):
        wander = 0.995 * wander + rng.gauss(0, 0.03)
        day = 4.2 + 2.3 * math.sin(2 * math.pi * second / seconds + phase)
        load.append(day + 0.6 * math.sin(6 * math.pi * second / seconds + second_phase) + wander)
    return _kept(load)


def bursty(seed: int, seconds: int = 600) -> list[float]:
    """A diurnal load with bursts of 5 to 40 s, one a minute and a half."""
    rng = random.Random(seed + 1000)
    load = diurnal(seed, seconds)
    for _ in range(seconds // 90):
        start, length, height = rng.randrange(seconds), rng.randint(5, 40), rng.uniform(0.5, 2.5)
        for second in range(start, min(seconds, start + length)):
            load[second] += height
    return _kept(load)


def steps(seed: int, seconds: int = 600) -> list[float]:
    """A new level every 30 to 120 s."""
    rng = random.Random(seed + 2000)
    load: list[float] = []
    while len(load) < seconds:
        load += [rng.uniform(LEAST, MOST)] * rng.randint(30, 120)
    return load[:seconds]


def noisy(seed: int, seconds: int = 600) -> list[float]:
    """A diurnal load that shakes by 6 % from second to second."""
    rng = random.Random(seed + 3000)
    return _kept([value * rng.gauss(1.0, 0.06) for value in diurnal(seed, seconds)])


VIRTUAL: dict[str, Callable[[int], list[float]]] = {"diurnal": diurnal, "bursty": bursty, "steps": steps, "noisy": noisy}


def read_trace(path: Path) -> list[float]:
    """One figure per line, stretched between what 2 and 10 replicas can meet."""
    values = [float(line.split(",")[-1]) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    low, high = min(values), max(values)
    return [LEAST + (MOST - LEAST) * (value - low) / max(high - low, 1e-9) for value in values]


def _kept(load: Sequence[float]) -> list[float]:
    return [min(MOST, max(LEAST, value)) for value in load]
