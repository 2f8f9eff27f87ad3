"""The six planted faults, live: the product's directory, ingress, HAProxy and replicas, each in its process, under a steady load."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from faulty_model import ERROR_FRAC, FAULTS, LEAK_BYTES, MEMORY_BYTES, SERVICE_S, SLOW_FACTOR, SPREAD, TAIL_FACTOR, TAIL_FRAC, WRONG_FRAC
from live_load import SteadyLoad
from live_world import NAME, LiveFabric, live_fabric
from sprt import sprt_requests

from serve_apps.rollout.spec import Canary

GUARDS = ("latency_p95<=1.2x", "error_rate<=+0.5%", "agreement>=0.98")
LONGEST_S = 900.0
_NUM_DRAWN = 400_000


def bound(fault: str) -> float:
    """Requests that Wald's test needs, which knows both distributions; of a leak, those before the first symptom and one."""
    draw = numpy.random.default_rng(0)
    champion = SERVICE_S * draw.lognormal(0.0, SPREAD, _NUM_DRAWN)
    allowed_s = 1.2 * numpy.quantile(champion, 0.95)
    if fault == "slow":
        return sprt_requests(float(numpy.mean(champion * SLOW_FACTOR > allowed_s)), 0.05)
    if fault == "slow_tail":
        slow = draw.random(_NUM_DRAWN) < TAIL_FRAC
        return sprt_requests(float(numpy.mean(numpy.where(slow, champion * TAIL_FACTOR, champion) > allowed_s)), 0.05)
    if fault == "errors":
        return sprt_requests(ERROR_FRAC, 0.005)
    if fault == "wrong_outputs":
        return sprt_requests(WRONG_FRAC, 0.02)
    return 1.0 + MEMORY_BYTES // LEAK_BYTES


def measured(runs: int, rate: float, faults: Sequence[str] = FAULTS) -> dict[str, Any]:
    """Each fault, `runs` times, in turns."""
    figures: dict[str, Any] = {}
    seen: dict[str, list[tuple[str, int]]] = {fault: [] for fault in faults}
    lost = total = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, live_fabric(Path(folder)) as fabric:
        fabric.deploy("", replicas=1)
        for number in range(runs):
            for fault in faults:
                state, reason, exposed, load = _run(fabric, fault, rate)
                lost += load.seen.lost
                total += load.seen.total
                seen[fault].append((state, exposed))
                said = f"run {number + 1} {fault}: {state}, {exposed} requests exposed, {load.seen.lost} of {load.seen.total} lost"
                print(f"{said} {load.seen.why_lost[:2] or ''} ({reason})", file=sys.stderr)
    for fault, found in seen.items():
        wanted = "failed" if fault == "crash_on_start" else "rolled_back"
        figures[f"{fault}.detected_frac"] = sum(state == wanted for state, _ in found) / len(found)
        exposed_mean = statistics.mean(exposed for _, exposed in found)
        figures[f"{fault}.exposed_mean"] = exposed_mean
        figures[f"{fault}.sprt_requests"] = bound(fault)
        figures[f"{fault}.exposure_over_sprt"] = exposed_mean / bound(fault)
    figures["detected_frac"] = min(figures[f"{fault}.detected_frac"] for fault in faults)
    figures["exposure_over_sprt"] = max(figures[f"{fault}.exposure_over_sprt"] for fault in faults)
    return figures | {"lost_requests": lost, "requests": total, "runs": runs}


def _run(fabric: LiveFabric, fault: str, rate: float) -> tuple[str, str, int, SteadyLoad]:
    """(state, reason, requests that the bad version answered or failed, the load)."""
    with SteadyLoad(f"{fabric.url}/v2/models/{NAME}/infer", rate) as load:
        record = fabric.deploy(fault, rollout=Canary(guards=GUARDS))
        try:
            fabric.until(lambda: bool(fabric.rollout()["is_settled"]), LONGEST_S)
        except TimeoutError:
            fabric.ask(fabric.shell.order_rollout(NAME, "abort", "bench"))
    shown = fabric.rollout()
    return shown["state"], shown["reason"], load.seen.by.get(record.version, 0) + load.seen.failed, load
