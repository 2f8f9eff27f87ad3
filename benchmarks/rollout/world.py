"""Simulated traffic for rollouts: arrivals that follow the day, and latencies that no test expects, on virtual time.

Requests are dealt to both sides at random, by the shares that the rollout decided a moment ago. A request's latency is log-normal with a
heavy tail, times what hits both sides alike: slow seconds (autocorrelated), slow spells in which everything takes several times as long and
errors come in clusters, and the load of the day. Each side has a small lasting difference of its own, as other nodes have. What replicas
say arrives late, each at its own time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy

from serve_apps.directory.observed import BUCKETS_PER_OCTAVE, FIRST_BUCKET_MS, Observed
from serve_apps.rollout.block import Health
from serve_apps.rollout.decision import Decision
from serve_apps.rollout.rollout import Rollout
from serve_apps.rollout.spec import RolloutSpec

CHAMPION, CHALLENGER = "1", "2"
SHIFT_S = 0.5
"""Until a decision's shares hold everywhere."""
START_S = 8.0
LONGEST_S = 7200.0
SLOW_SD = 0.1
"""Of the logarithm of how slow a second is."""


@dataclass(frozen=True, slots=True)
class Base:
    """The champion, and the traffic. `sigma`: of the log-normal; `tail_frac` of the requests have a Pareto tail; `differ_frac`: how far
    the sides' latencies may differ for good; `disagree_rate`: of answers, as between two right versions."""

    per_s: float = 200.0
    median_ms: float = 20.0
    sigma: float = 0.35
    tail_frac: float = 0.01
    error_rate: float = 0.001
    differ_frac: float = 0.03
    disagree_rate: float = 0.005
    spell_every_s: float = 240.0
    spell_s: float = 5.0
    spell_slower: float = 3.0
    day_frac: float = 0.3
    look_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the challenger. `leak_requests`: a replica dies of memory after so many."""

    name: str = "none"
    slower: float = 1.0
    slow_tail_frac: float = 0.0
    slow_tail_times: float = 1.0
    error_rate: float = 0.0
    wrong_frac: float = 0.0
    leak_requests: int = 0
    cannot_start: bool = False


@dataclass(slots=True)
class Outcome:
    """`exposed`: requests of users that the challenger answered or failed; `compared`: copies that were compared."""

    decision: Decision
    took_s: float
    exposed: int
    compared: int
    percent: float
    after_symptom: int
    seconds_at: dict[float, float] = field(default_factory=dict)


class World:
    def __init__(self, base: Base, fault: Fault, seed: int) -> None:
        self.base, self.fault = base, fault
        self.rng = numpy.random.default_rng(seed)
        self.log_slow = 0.0
        self.spell_left_s = 0.0
        self.own = self.rng.normal(0.0, base.differ_frac / 2, 2)
        self.day = self.rng.uniform(0.0, 2 * math.pi)
        self.replicas = 2
        self.leaked = 0
        self.deaths = 0
        self.down_s = 0.0

    def run(self, spec: RolloutSpec) -> Outcome:
        base, rng = self.base, self.rng
        rollout = Rollout.begin(spec, champion=CHAMPION, challenger=CHALLENGER, now_s=0.0)
        decision, now_s = rollout.decision(), 0.0
        sums = [self._history(), Observed()]
        told = list(sums)
        orders: list[tuple[float, float]] = [(0.0, 0.0)]
        exposed = compared = after = 0
        percent, seconds_at = 0.0, {}
        while not decision.is_ended and now_s < LONGEST_S:
            now_s += base.look_s
            self._weather(base.look_s)
            share = next(share for at_s, share in reversed(orders) if at_s + SHIFT_S <= now_s or at_s == 0.0)
            load = base.per_s * (1.0 + base.day_frac * math.sin(self.day + now_s / 86400 * 2 * math.pi * 24))
            total = int(rng.poisson(load * base.look_s))
            num1 = int(rng.binomial(total, share))
            symptom = self.deaths > 0 or self.down_s > 0
            new = self._requests(total - num1, 0), self._requests(num1, 1)
            exposed += num1
            after += num1 if symptom or self.deaths > 0 else 0
            copies = self._copies(total - num1, decision.shadow_share / 10_000, now_s)
            compared += copies.num_compared
            sums = [sums[0] + new[0] + copies, sums[1] + new[1]]
            # A side's replicas report at their own times: what is told is now and then a look old.
            told = [now if rng.random() < 0.8 else old for now, old in zip(sums, told, strict=True)]
            percent = decision.percent or percent
            seconds_at[decision.percent] = seconds_at.get(decision.percent, 0.0) + base.look_s
            decision = rollout.look(now_s, told[0], told[1], self._health(now_s))
            if decision.shares[CHALLENGER] / 10_000 != orders[-1][1]:
                orders.append((now_s, decision.shares[CHALLENGER] / 10_000))
        if decision.is_ended and decision.state != "promoted":  # what still comes until the change holds
            lingering = int(rng.binomial(rng.poisson(base.per_s * SHIFT_S), orders[-2][1])) if len(orders) > 1 else 0
            exposed, after = exposed + lingering, after + (lingering if self.deaths else 0)
        return Outcome(decision, now_s, exposed, compared, percent, after, seconds_at)

    def _history(self) -> Observed:
        """What the champion answered in the ten minutes before."""
        seen = Observed()
        for _ in range(120):
            self._weather(5.0)
            seen += self._requests(int(self.rng.poisson(self.base.per_s * 5.0)), 0)
        return seen

    def _weather(self, dt_s: float) -> None:
        """What hits both sides."""
        kept = math.exp(-dt_s / 3.0)
        self.log_slow = kept * self.log_slow + math.sqrt(1 - kept**2) * self.rng.normal(0.0, SLOW_SD)
        self.spell_left_s = max(0.0, self.spell_left_s - dt_s)
        if self.spell_left_s == 0 and self.rng.random() < dt_s / self.base.spell_every_s:
            self.spell_left_s = self.rng.exponential(self.base.spell_s)

    def _requests(self, num: int, side: int) -> Observed:
        base, rng, fault = self.base, self.rng, self.fault
        is_spell = self.spell_left_s > 0
        errors = min(1.0, base.error_rate * (5.0 if is_spell else 1.0))
        if side == 1:
            errors = max(errors, fault.error_rate)
            if self._is_down(num):
                errors = 1.0
        failed = int(rng.binomial(num, errors))
        latencies = self.latencies(num - failed, side)
        latencies *= math.exp(self.log_slow) * (base.spell_slower if is_spell else 1.0)
        return Observed(buckets(latencies), failed)

    def latencies(self, num: int, side: int) -> numpy.ndarray:
        """In ms, without what hits both sides."""
        base, rng, fault = self.base, self.rng, self.fault
        latencies = base.median_ms * numpy.exp(rng.normal(self.own[side], base.sigma, num))
        heavy = rng.random(num) < base.tail_frac
        latencies[heavy] *= 1.0 + rng.pareto(2.0, int(heavy.sum()))
        if side == 1:
            latencies *= fault.slower
            latencies[rng.random(num) < fault.slow_tail_frac] *= fault.slow_tail_times
        return latencies

    def _is_down(self, num: int) -> bool:
        """Both replicas leak alike; the second dies soon after the first."""
        if not self.fault.leak_requests:
            return False
        self.leaked += num
        due = (self.leaked >= self.fault.leak_requests) + (self.leaked >= 1.05 * self.fault.leak_requests)
        self.deaths = max(self.deaths, int(due))
        return self.deaths >= self.replicas

    def _copies(self, num: int, share: float, now_s: float) -> Observed:
        compared = int(self.rng.binomial(num, share)) if now_s > START_S else 0
        wrong = 1 - (1 - self.base.disagree_rate) * (1 - self.fault.wrong_frac)
        return Observed(num_compared=compared, num_agreed=compared - int(self.rng.binomial(compared, wrong)))

    def _health(self, now_s: float) -> Health:
        if self.fault.cannot_start:
            return Health(0, self.replicas, start_error="it exits with status 1" if now_s > START_S else "")
        if now_s < START_S:
            return Health(0, self.replicas)
        return Health(self.replicas - self.deaths, self.replicas, self.deaths)


def buckets(latencies: numpy.ndarray) -> dict[int, int]:
    if not len(latencies):
        return {}
    places = numpy.maximum(0, numpy.ceil(BUCKETS_PER_OCTAVE * numpy.log2(latencies / FIRST_BUCKET_MS))).astype(int)
    counts = numpy.bincount(places)
    return {int(bucket): int(counts[bucket]) for bucket in numpy.flatnonzero(counts)}


def tail_rates(
    base: Base, fault: Fault, scale: float, tail: float, *, with_weather: bool = False, num: int = 1_000_000
) -> tuple[float, float]:
    """(the fault's share of requests beyond `scale` times the champion's quantile, the share that is allowed): with all that hits both
    sides left out, as no test could leave it out; `with_weather`: over all requests, as if each had its slow second or spell to itself."""
    world = World(base, fault, 12345)
    world.own = numpy.zeros(2)
    champion, challenger = (world.latencies(num, side) for side in (0, 1))
    if with_weather:
        champion, challenger = (latencies * _weather_of(base, num, world.rng) for latencies in (champion, challenger))
    return float((challenger > scale * numpy.quantile(champion, 1 - tail)).mean()), tail


def _weather_of(base: Base, num: int, rng: numpy.random.Generator) -> numpy.ndarray:
    in_spell = rng.random(num) < base.spell_s / (base.spell_every_s + base.spell_s)
    return numpy.exp(rng.normal(0.0, SLOW_SD, num)) * numpy.where(in_spell, base.spell_slower, 1.0)
