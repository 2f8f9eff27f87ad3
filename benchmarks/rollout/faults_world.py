"""The six planted faults on virtual time, and the bound of each: what Wald's test would have needed."""

from __future__ import annotations

import statistics
from typing import Any

from sprt import sprt_requests
from world import Base, Fault, World, tail_rates

from serve_apps.rollout.spec import Canary

GUARDS = ("latency_p95<=1.2x", "error_rate<=+0.5%", "agreement>=0.98")
LEAK_REQUESTS = 3000
FAULTS = (
    Fault("slow", slower=1.5),
    Fault("slow_tail", slow_tail_frac=0.1, slow_tail_times=5.0),
    Fault("errors", error_rate=0.02),
    Fault("wrong_outputs", wrong_frac=0.05),
    Fault("leak", leak_requests=LEAK_REQUESTS),
    Fault("crash_on_start", cannot_start=True),
)


def bound(base: Base, fault: Fault, *, with_weather: bool = False) -> float:
    """Requests. Of a leak: those before the first symptom, which nothing but memory could show, and one for a side that fails all."""
    if fault.slower > 1 or fault.slow_tail_frac:
        rate, allowed = tail_rates(base, fault, 1.2, 0.05, with_weather=with_weather)
        return sprt_requests(rate, allowed)
    if fault.error_rate:
        return sprt_requests(fault.error_rate, base.error_rate + 0.005)
    if fault.wrong_frac:
        return sprt_requests(1 - (1 - base.disagree_rate) * (1 - fault.wrong_frac), 0.02)
    return 1.0 + fault.leak_requests


def measured(base: Base, fault: Fault, seeds: range) -> dict[str, Any]:
    needed = bound(base, fault)
    runs = [World(base, fault, seed).run(Canary(guards=GUARDS)) for seed in seeds]
    wanted = "failed" if fault.cannot_start else "rolled_back"
    used = [run.compared if fault.wrong_frac else run.exposed for run in runs]
    return {
        "detected_frac": sum(run.decision.state == wanted for run in runs) / len(runs),
        "exposure_over_sprt": statistics.mean(run.exposed for run in runs) / needed,
        "exposure_over_weathered_sprt": statistics.mean(run.exposed for run in runs) / bound(base, fault, with_weather=True),
        "evidence_over_sprt": statistics.mean(used) / needed,
        "sprt_requests": needed,
        "exposed_p50": statistics.median(run.exposed for run in runs),
        "exposed_max": max(run.exposed for run in runs),
        "percent_p50": statistics.median(run.percent for run in runs),
        "took_s_p50": statistics.median(run.took_s for run in runs),
    }
