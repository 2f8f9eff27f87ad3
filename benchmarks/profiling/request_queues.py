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


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def serve(
    arrivals_s: Floats, starts: Ints, unit_kind: Ints, fixed_s: Floats, per_item_s: Floats, max_batch: Ints, max_wait_s: Floats
) -> Floats:
    """float64[requests]: when each request is finished.

    `arrivals_s` float64[requests]: of all services, one after another, each sorted; service m has those from `starts[m]` to
    `starts[m + 1]`. `unit_kind` int64[units]: the row of each unit in `fixed_s` and `per_item_s` float64[kinds, services] (infinite
    where it cannot serve one) and `max_batch` int64[kinds, services]. Units earlier in the list are taken first.
    """
    num_services, num_units = len(starts) - 1, len(unit_kind)
    finish = np.empty(len(arrivals_s))
    head, tail = starts[:-1].copy(), starts[:-1].copy()
    free_s = np.zeros(num_units)
    left, now = len(arrivals_s), 0.0
    while left > 0:
        for m in range(num_services):
            while tail[m] < starts[m + 1] and arrivals_s[tail[m]] <= now:
                tail[m] += 1
        started, has_idle = False, False
        next_free = np.inf
        for u in range(num_units):
            if free_s[u] > now:
                next_free = min(next_free, free_s[u])
                continue
            has_idle = True
            kind, best, oldest = unit_kind[u], -1, np.inf
            for m in range(num_services):
                waiting = tail[m] - head[m]
                if waiting == 0 or fixed_s[kind, m] == np.inf:
                    continue
                first = arrivals_s[head[m]]
                if first < oldest and (waiting >= max_batch[kind, m] or now >= first + max_wait_s[m]):
                    best, oldest = m, first
            if best >= 0:
                taken = min(tail[best] - head[best], max_batch[kind, best])
                free_s[u] = now + fixed_s[kind, best] + taken * per_item_s[kind, best]
                finish[head[best] : head[best] + taken] = free_s[u]
                head[best] += taken
                left -= taken
                next_free = min(next_free, free_s[u])
                started = True
        if started or left == 0:
            continue
        # Nothing can start now: on to the next arrival, unit or timer.
        later = next_free
        for m in range(num_services if has_idle else 0):
            if tail[m] < starts[m + 1]:
                later = min(later, arrivals_s[tail[m]])
            if tail[m] > head[m] and arrivals_s[head[m]] + max_wait_s[m] > now:
                later = min(later, arrivals_s[head[m]] + max_wait_s[m])
        now = later
    return finish


def poisson(rng: np.random.Generator, rate_per_s: float, window_s: float) -> Floats:
    """Sorted arrival times of a Poisson process over the window."""
    return np.sort(rng.uniform(0.0, window_s, rng.poisson(rate_per_s * window_s)))
