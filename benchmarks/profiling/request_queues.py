"""Requests through one queue that several units serve, request by request: the simulation behind `tiering.py`.

It decides nothing but what a server with dynamic batching does: a free unit takes the service whose oldest request has waited
longest, as many of its requests as the batch may have, once there are that many or the oldest has waited `max_wait_s`.
Compiled; a million requests take a tenth of a second.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@numba.njit(cache=True)
def serve(
    arrivals_s: Floats, starts: Ints, unit_kind: Ints, fixed_s: Floats, per_item_s: Floats, max_batch: Ints, max_wait_s: Floats
) -> Floats:
    """float64[requests]: when each request is finished.

    `arrivals_s` float64[requests]: of all services, one after another, each sorted; service m has those from `starts[m]` to
    `starts[m + 1]`. `unit_kind` int64[units]: the row of each unit in `fixed_s` and `per_item_s` float64[kinds, services] (infinite
    where it cannot serve one) and `max_batch` int64[kinds, services]. Units earlier in the list are taken first.
    """
    finish = np.empty(len(arrivals_s))
    head, tail = starts[:-1].copy(), starts[:-1].copy()
    free_s = np.zeros(len(unit_kind))
    left, now = len(arrivals_s), 0.0
    while left > 0:
        for m in range(len(head)):
            while tail[m] < starts[m + 1] and arrivals_s[tail[m]] <= now:
                tail[m] += 1
        has_started, has_idle = False, False
        for u in range(len(unit_kind)):
            if free_s[u] > now:
                continue
            kind = unit_kind[u]
            m = _oldest(now, arrivals_s, head, tail, fixed_s[kind], max_batch[kind], max_wait_s)
            has_idle |= m < 0
            if m >= 0:
                taken = min(tail[m] - head[m], max_batch[kind, m])
                free_s[u] = now + fixed_s[kind, m] + taken * per_item_s[kind, m]
                finish[head[m] : head[m] + taken] = free_s[u]
                head[m] += taken
                left -= taken
                has_started = True
        if not has_started:
            now = _later(now, arrivals_s, starts, head, tail, free_s, max_wait_s, has_idle)
    return finish


@numba.njit(cache=True)
def _oldest(now: float, arrivals_s: Floats, head: Ints, tail: Ints, fixed_s: Floats, max_batch: Ints, max_wait_s: Floats) -> int:
    """The service that a free unit takes now; -1 where none is ready."""
    best, oldest = -1, np.inf
    for m in range(len(head)):
        waiting = tail[m] - head[m]
        if waiting == 0 or fixed_s[m] == np.inf:
            continue
        first = arrivals_s[head[m]]
        if first < oldest and (waiting >= max_batch[m] or now >= first + max_wait_s[m]):
            best, oldest = m, first
    return best


@numba.njit(cache=True)
def _later(
    now: float, arrivals_s: Floats, starts: Ints, head: Ints, tail: Ints, free_s: Floats, max_wait_s: Floats, has_idle: bool
) -> float:
    """The next time at which something can start: a unit is free, or (where one is idle) a request comes or a timer ends."""
    later = np.inf
    for u in range(len(free_s)):
        if free_s[u] > now:
            later = min(later, free_s[u])
    for m in range(len(head) if has_idle else 0):
        if tail[m] < starts[m + 1]:
            later = min(later, arrivals_s[tail[m]])
        if tail[m] > head[m] and arrivals_s[head[m]] + max_wait_s[m] > now:
            later = min(later, arrivals_s[head[m]] + max_wait_s[m])
    return later


def poisson(rng: np.random.Generator, rate_per_s: float, window_s: float) -> Floats:
    """Sorted arrival times of a Poisson process over the window."""
    return np.sort(rng.uniform(0.0, window_s, rng.poisson(rate_per_s * window_s)))
