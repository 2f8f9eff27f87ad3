"""Decides how many replicas a model should have, from what they report. Plain code on the time that it is given.

Adding is quick, removing slower: a replica goes only when fewer would have done for as long as the dwell, which follows how long
replicas of this model take to start (a dear start is undone late, as nothing else would be noticed of flapping), and not before the
last removal has shown in what the others report. A load that rises steadily is met ahead of time, by the same start. A replica's first
seconds say nothing of the load: its loading is not counted.

Invariants: the answer stays within the bounds, and is 0 only by idleness with `min` 0; every change leaves a record; with no report at
all nothing changes; the same facts at the same times give the same answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_apps.autoscaling import record
from serve_apps.autoscaling.demand import LEAST_QUEUE_RATIO, Trend, latency_count, share_count
from serve_apps.autoscaling.record import Decision
from serve_apps.autoscaling.rule import LATENCY_P95, ONGOING_REQUESTS, Autoscale

SAMPLE_S = 0.25
TREND_S = 10.0
REPORT_EVERY_S = 1.0
SETTLE_S = 2.0
"""After one removal before the next: until then the others have not told of what they took over, and the load looks smaller than it is."""
REPORT_LAG_S = 1.0
"""A report is as old as half its window and its way here."""
LEVEL_S = 1.6
"""What is taken for the load is a mean over this long."""
START_S = 5.0
"""Taken for the time that a replica needs to start until one was seen to start."""
LONGEST_LEAD_S = 8.0
"""A trend is never projected further than it was watched."""
LOADING_S = 2.0
YOUNG_S = 6.0
"""What a replica uses in its first seconds may be its start's: it counts as much as one that has settled, if there is one."""
LATENCY_SETTLE_S = 10.0
"""p95 of requests is theirs of the last ten seconds: what was measured before a change is no reason for the next one."""
STALE_S = 6.0
LEAST_DWELL_S = 1.5
LONGEST_DWELL_S = 300.0
"""Kubernetes' HorizontalPodAutoscaler waits 300 s before it removes, whatever a start costs."""
DWELL_STARTS = 0.3
"""Of a start: a replica that is removed too early is missed for a whole start, one that is kept for nothing costs its dwell."""
REGRET_DWELLS = 1.0
MOST_PATIENCE = 4.0
"""A removal that had to be undone within a dwell doubles the dwell, up to four times; one that had not halves it again."""
NUM_RECORDS = 20


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica said last, and how old it is."""

    values: Mapping[str, float]
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a model. `num_wanted`: the number asked for before; `num_queued`: requests that wait for any replica at all."""

    now_s: float
    num_running: int
    num_wanted: int
    reports: Mapping[str, Report]
    num_queued: float = 0.0


@dataclass(slots=True)
class _Advice:
    count: int
    value: float
    reason: str
    is_known: bool = True
    needed: float = 0.0
    fall_per_s: float = 0.0
    is_share: bool = False


@dataclass(slots=True)
class Starts:
    """How long replicas take to start, from what was asked for and when it ran; mean with fading memory."""

    start_s: float = START_S
    _asked: deque[tuple[int, float]] = field(default_factory=deque)
    _num_wanted: int = -1

    def observe(self, num_running: int, num_wanted: int, now_s: float) -> None:
        if num_wanted > self._num_wanted >= 0:
            self._asked.append((num_wanted, now_s))
        elif num_wanted < self._num_wanted:
            self._asked.clear()
        self._num_wanted = num_wanted
        while self._asked and num_running >= self._asked[0][0]:
            _, asked_s = self._asked.popleft()
            self.start_s += 0.5 * (now_s - asked_s - self.start_s)
        if self._asked:  # one that is still on its way has already taken so long
            self.start_s = max(self.start_s, now_s - self._asked[0][1])


class Scaler:
    """One model's autoscaler. `records`: its last changes, oldest first."""

    def __init__(self, rule: Autoscale) -> None:
        self.rule = rule
        self.records: deque[Decision] = deque(maxlen=NUM_RECORDS)
        self.starts = Starts()
        self._trend = Trend(TREND_S)
        self._needed: deque[tuple[float, float]] = deque()
        self._born: dict[str, float] = {}
        self._sampled_s = float("-inf")
        self._began_s: float | None = None
        self._last = -1
        self._changed_s = float("-inf")
        self._patience = 1.0
        self._removed_s: float | None = None

    def decide(self, facts: Facts) -> int:
        """The number of replicas from now on. Call it as often as you like: it looks at the load every `SAMPLE_S`."""
        self._follow(facts)
        wanted = facts.num_wanted
        if wanted == 0:
            count, advice = self._from_zero(facts)
        elif self._is_idle(facts):
            count, advice = 0, _Advice(0, min(r.values["idle_s"] for r in facts.reports.values()), record.IDLE)
        else:
            count, advice = self._steady(facts)
        bounded = self._bounded(count, advice.reason)
        if bounded != wanted:
            self._record(facts, bounded, advice.value, advice.reason or record.BOUNDS)
            self._learn(bounded > wanted, facts.now_s)
        self._last = bounded
        return bounded

    def _follow(self, facts: Facts) -> None:
        """What happened without this policy's doing: births, deaths, starts, and a wake-up by Serve itself."""
        self._began_s = facts.now_s if self._began_s is None else self._began_s
        # The replicas that were there before this policy are not young.
        born_s = facts.now_s if facts.now_s > self._began_s or facts.num_wanted == 0 else facts.now_s - LATENCY_SETTLE_S
        self._born = {name: self._born.get(name, born_s) for name in facts.reports}
        self.starts.observe(facts.num_running, facts.num_wanted, facts.now_s)
        if self._last == 0 and facts.num_wanted > 0:
            self._record(facts, facts.num_wanted, facts.num_queued, record.WOKEN, num_from=0)

    def _from_zero(self, facts: Facts) -> tuple[int, _Advice]:
        self._forget()
        if facts.num_queued > 0:
            return 1, _Advice(1, facts.num_queued, record.WOKEN)
        return 0, _Advice(0, 0.0, "")

    def _is_idle(self, facts: Facts) -> bool:
        if self.rule.min > 0 or facts.num_queued > 0 or not facts.reports or facts.num_running < facts.num_wanted:
            return False
        is_complete = len(facts.reports) >= facts.num_running
        return is_complete and all(report.values.get("idle_s", 0.0) >= self.rule.idle_s for report in facts.reports.values())

    def _steady(self, facts: Facts) -> tuple[int, _Advice]:
        now_s, wanted = facts.now_s, facts.num_wanted
        if now_s - self._sampled_s < SAMPLE_S - 1e-6:
            return wanted, _Advice(wanted, 0.0, "")
        self._sampled_s = now_s
        advice = self._by_latency(facts) if self.rule.metric == LATENCY_P95 else self._by_share(facts)
        if not advice.is_known:
            return wanted, advice
        self._needed.append((now_s, advice.needed))
        if advice.count > wanted:
            return advice.count, advice
        dwell_s = self.dwell_s()
        while now_s - self._needed[0][0] > dwell_s:
            self._needed.popleft()
        is_settled = self._removed_s is None or now_s - self._removed_s >= SETTLE_S
        if now_s - self._needed[0][0] < dwell_s - 2 * SAMPLE_S or not is_settled:
            return wanted, advice
        # A load that falls steadily is followed: what it was before is no reason to keep replicas.
        peak = max(needed + advice.fall_per_s * (now_s - at_s) for at_s, needed in self._needed)
        most = share_count(peak, wanted, self.rule.target) if advice.is_share else round(peak)
        return min(wanted, most), _Advice(min(wanted, most), advice.value, record.BELOW_TARGET)

    def dwell_s(self) -> float:
        """For so long fewer replicas must have been enough before any goes."""
        return min(LONGEST_DWELL_S, self._patience * max(LEAST_DWELL_S, DWELL_STARTS * self.starts.start_s))

    def _learn(self, is_more: bool, now_s: float) -> None:
        """Flapping is met with patience."""
        self._changed_s = now_s
        if is_more:
            if self._removed_s is not None and now_s - self._removed_s < REGRET_DWELLS * self.dwell_s():
                self._patience = min(MOST_PATIENCE, 2.0 * self._patience)
            self._removed_s = None
            return
        if self._removed_s is not None and now_s - self._removed_s >= REGRET_DWELLS * self.dwell_s():
            self._patience = max(1.0, 0.5 * self._patience)
        self._removed_s = now_s

    def _by_share(self, facts: Facts) -> _Advice:
        target, wanted = self.rule.target, facts.num_wanted
        metric = self.rule.metric
        fresh = {name: one.values[metric] for name, one in facts.reports.items() if one.age_s <= STALE_S and metric in one.values}
        load = self._load(fresh, facts)
        if load is None:
            return _Advice(wanted, 0.0, "", is_known=False)
        self._trend.add(facts.now_s, load)
        load, slope = self._trend.level(LEVEL_S), self._trend.slope()
        lead_s = min(LONGEST_LEAD_S, REPORT_LAG_S + (self.starts.start_s if slope > 0 else 0.0))
        ahead = max(0.0, load + slope * lead_s)
        count = share_count(ahead, wanted, target)
        # The silent may be idle where that would ask for more, and as busy as the target allows where it would ask for fewer.
        needed = max(load, ahead) + max(0, facts.num_running - len(fresh)) * target
        is_ahead = count > wanted and share_count(load, wanted, target) <= wanted
        reason = record.RISING if is_ahead else record.ABOVE_TARGET
        return _Advice(count, load / len(fresh), reason, needed=needed, fall_per_s=min(0.0, slope), is_share=True)

    def _load(self, fresh: Mapping[str, float], facts: Facts) -> float | None:
        """The metric summed over the replicas; None where only young ones speak."""
        age_s = {name: facts.now_s - self._born[name] for name in fresh}
        settled_s = YOUNG_S if max(age_s.values(), default=0.0) >= YOUNG_S else LOADING_S
        settled = [value for name, value in fresh.items() if age_s[name] >= settled_s]
        if not settled:
            return None
        mean = sum(settled) / len(settled)
        load = sum(value if age_s[name] >= settled_s else min(mean, value) for name, value in fresh.items())
        return load + (facts.num_queued if self.rule.metric == ONGOING_REQUESTS else 0.0)

    def _by_latency(self, facts: Facts) -> _Advice:
        wanted, target = facts.num_wanted, self.rule.target
        fresh = [report.values for report in facts.reports.values() if report.age_s <= STALE_S and "latency_p95_ms" in report.values]
        settled = [name for name in facts.reports if facts.now_s - self._born[name] >= LATENCY_SETTLE_S]
        has_settled = len(settled) >= facts.num_running >= wanted and facts.now_s - self._changed_s >= LATENCY_SETTLE_S
        if not fresh or not has_settled:
            return _Advice(wanted, 0.0, "", is_known=False)
        weights = [max(values.get("requests_per_s", 0.0), 0.0) for values in fresh]
        total = sum(weights)
        if total <= 0:
            return _Advice(1, 0.0, record.BELOW_TARGET, needed=1.0)

        def mean(key: str) -> float:
            return sum(weight * values.get(key, 0.0) for weight, values in zip(weights, fresh, strict=True)) / total

        latency_ms, service_ms, offered = mean("latency_p95_ms"), mean("service_p95_ms"), mean("offered")
        count = latency_count(latency_ms, service_ms, offered, wanted, target)
        is_out = target < LEAST_QUEUE_RATIO * service_ms
        return _Advice(count, latency_ms, record.OUT_OF_REACH if is_out else record.ABOVE_TARGET, needed=float(count))

    def _bounded(self, count: int, reason: str) -> int:
        least = self.rule.min if reason in (record.IDLE, record.WOKEN) or count == 0 else max(1, self.rule.min)
        return min(self.rule.max, max(least, count))

    def _record(self, facts: Facts, count: int, value: float, reason: str, num_from: int | None = None) -> None:
        metric, target = self.rule.metric, self.rule.target
        if reason == record.IDLE:
            metric, target = "idle_s", self.rule.idle_s
        start = facts.num_wanted if num_from is None else num_from
        self.records.append(Decision(facts.now_s, start, count, reason, metric, value, target))

    def _forget(self) -> None:
        self._needed.clear()
        self._trend.clear()
