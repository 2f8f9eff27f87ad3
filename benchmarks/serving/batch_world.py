"""Virtual time for batches: arrivals, service times, a static rule in few lines, and the product's own batcher driven by events."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy

from serve_apps.execution.batcher import Batcher
from serve_apps.execution.queue import Ticket

Floats = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]
RunTime = Callable[[int], float]


def poisson(rng: numpy.random.Generator, count: int) -> Floats:
    """Arrival times at one request per second on average."""
    return numpy.cumsum(rng.exponential(1.0, count))


def bursts(rng: numpy.random.Generator, count: int, size: float = 12.0, spread: float = 1.5) -> Floats:
    """Bursts of about `size` requests, which come within `spread` mean gaps of a request, at one request per second on average."""
    starts, times = 0.0, []
    while len(times) < count:
        starts += rng.exponential(size)
        times += list(starts + rng.uniform(0.0, spread, max(1, rng.poisson(size))))
    found = numpy.sort(numpy.array(times[:count]))
    return found / found[-1] * count


def static_latencies(arrivals: Floats, run_s: RunTime, noise: Floats, max_rows: int, wait_s: float) -> Floats:
    """Latency of each request when one server takes up to `max_rows` that wait, or the oldest waited for `wait_s`."""
    latencies = numpy.empty(len(arrivals))
    now_s, at, end, number = 0.0, 0, len(arrivals), 0
    while at < end:
        full_s = arrivals[at + max_rows - 1] if at + max_rows <= end else math.inf
        now_s = max(now_s, min(full_s, arrivals[at] + wait_s))
        stop = min(int(numpy.searchsorted(arrivals, now_s, side="right")), at + max_rows)
        now_s += run_s(stop - at) * noise[number % len(noise)]
        latencies[at:stop] = now_s - arrivals[at:stop]
        at, number = stop, number + 1
    return latencies


def batcher_latencies(arrivals: Floats, run_s: RunTime, noise: Floats, batcher: Batcher, num_slots: int = 1) -> Floats:
    """The same for the product's batcher: every request is added, every batch is run and told of, every wake-up is kept."""
    latencies = numpy.empty(len(arrivals))
    running: list[tuple[float, int, list[Ticket], float]] = []
    at, number, end = 0, 0, len(arrivals)
    while at < end or running or batcher.queue.num_waiting:
        next_s = arrivals[at] if at < end else math.inf
        ended_s = running[0][0] if running else math.inf
        wake_s = batcher.wake_s if len(running) < num_slots else math.inf
        now_s = float(min(next_s, ended_s, wake_s))
        if ended_s == now_s:
            _, _, batch, took_s = heapq.heappop(running)
            for ticket in batch:
                latencies[ticket.payload] = now_s - ticket.arrived_s
            batcher.note_ran(batch, took_s, now_s)
        elif next_s == now_s:
            batcher.add(Ticket(at), now_s)
            at += 1
        while len(running) < num_slots and (batch := batcher.next_batch(now_s)):
            took_s = run_s(sum(ticket.rows for ticket in batch)) * noise[number % len(noise)]
            number += 1
            heapq.heappush(running, (now_s + took_s, number, batch, took_s))
    return latencies


def warmed(arrivals: Floats, warm_up: int) -> Floats:
    """The same with the first `warm_up` requests at a third, at nine tenths and at six fifths of the load in turn, then a pause: what
    learns has seen the load that it is to carry, and what was left waiting is gone."""
    gaps = numpy.diff(arrivals, prepend=0.0)
    phase = numpy.arange(warm_up) * 9 // warm_up % 3
    gaps[:warm_up] *= numpy.array([3.0, 1.1, 0.85])[phase]
    gaps[warm_up] += warm_up / 4
    return numpy.cumsum(gaps)


def keeps(latencies: Floats, warm_up: int, budget_s: float) -> bool:
    """Whether the 99th percentile after the warm-up is in the budget."""
    return bool(numpy.quantile(latencies[warm_up:], 0.99) <= budget_s)


def most_load(is_kept: Callable[[float], bool], low: float, high: float, rounds: int = 9) -> float:
    """The largest requests per second that are kept, searched between `low`, which is taken to be kept, and `high`."""
    for _ in range(rounds):
        middle = (low + high) / 2
        if is_kept(middle):
            low = middle
        else:
            high = middle
    return low
