"""What the stand-in for the API says of made-up jobs, models, policies and usage, in the forms of the real one. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fabric.usage_form import MODEL_ROW_KEYS
from fabric.what_if_form import SIDE_KEYS, WHAT_IF_KEYS

HOSTILE = "<img src=x onerror=alert(1)>"
POLICY = """apiVersion: scheduling.example.com/v1
kind: HybridPolicy
metadata:
  name: research-lab
spec:
  priorityClasses:
    - name: high
      weight: 3
      value: 100
    - name: low
      weight: 1
  queues:
    - name: research
      weight: 2
      nominalQuota: {a100-80g: 512}
    - name: batch
      weight: 1
  objective: jct
"""


def words(kind: str, body: Mapping[str, Any]) -> str:
    attempt = f"attempt {body['attempt']} " if "attempt" in body else ""
    return f"{attempt}{kind.removeprefix('Job').lower()} {body.get('reason', '')}".strip()


def ways() -> list[dict[str, Any]]:
    keys = (
        "flavor",
        "tier",
        "twin",
        "num_bundles",
        "units",
        "wait_s",
        "run_s",
        "run_log_sd",
        "finish_s",
        "cost_usd",
        "verdict",
        "reason",
        "detail",
    )
    rows = (
        ("a100-80g", "hot", False, 1, 2.0, 240.0, 4100.0, 0.18, 4340.0, 8.42, "Fit", "Resources", "lowest wait + run + cost"),
        ("t4", "warm", True, 1, 1.0, 0.2, 21_800.0, 0.34, 21_800.0, 3.18, "Fit", "Resources", "would start now, and finish later"),
        ("cpu", "cold", False, 2, 16.0, 0.0, 402_000.0, 0.69, 402_000.0, 61.3, "NoFit", "BadConstraints", f"asks for a GPU {HOSTILE}"),
    )
    family = {"a100-80g": {"runs": 7, "run_s": 3980.0, "run_log_sd": 0.12}, "t4": {"runs": 2, "run_s": 20_100.0, "run_log_sd": 0.2}}
    return [{**dict(zip(keys, row, strict=True)), "measured": family.get(str(row[0]))} for row in rows]


def changes() -> list[dict[str, Any]]:
    return [
        {"change": "on tier=warm", "start_s": 0.2, "finish_delta_s": 17_460.0, "cost_delta_usd": -5.24},
        {"change": "if it asks for ≤ 20 GB", "start_s": 60.0, "finish_delta_s": -180.0, "cost_delta_usd": None},
    ]


def efficiency(view: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "job": view,
        "timeout_s": None,
        "name": view["name"],
        "jobs": 1,
        "runs": 1,
        "wall_s": 6100.0,
        "cpus_asked": 8.0,
        "cpus_used": 2.4,
        "cpu_frac": 0.3,
        "memory_asked_bytes": 64 * 2**30,
        "memory_peak_bytes": 19 * 2**30,
        "memory_frac": 0.297,
        "gpu_frac": 0.91,
        "gpu_memory_bytes": 80 * 2**30,
        "gpu_memory_peak_bytes": 71 * 2**30,
        "cost_usd": 8.42,
        "wasted_usd": 0.76,
        "hints": [
            "asks for 8 CPUs, uses 2.4: cpus=3 leaves the others to those who wait",
            "asks for 64 GiB, uses 19 GiB at its peak: memory='24GiB' would leave 40 GiB to others",
        ],
    }


def rollout(state: str, now_s: float) -> dict[str, Any]:
    is_on = state in ("stepping", "paused")
    return {
        "model": "resnet-50",
        "champion": "resnet-50.v2",
        "challenger": "resnet-50.v3",
        "began_s": now_s - 840,
        "soaked_s": 42.0,
        "step": 2,
        "spec": {"steps": [1, 5, 25, 50, 100]},
        "state": state,
        "percent": 25 if is_on else 100,
        "shadow_share": 0,
        "shares": {"resnet-50.v2": 7500, "resnet-50.v3": 2500},
        "reason": "soaks: 42 s of 120 s at 25 %" if is_on else f"{state} by ann",
        "guards": guards(),
        "history": [
            {"at_s": now_s - 840, "to": "starting", "reason": "resnet-50.v3 is deployed beside resnet-50.v2"},
            {"at_s": now_s - 700, "to": "stepping", "reason": "it is ready: 1 %"},
            {"at_s": now_s - 420, "to": "stepping", "reason": "no guard is violated: 25 %"},
        ],
    }


def guards() -> list[dict[str, Any]]:
    keys = ("guard", "verdict", "value", "champion", "bound", "num_samples", "confidence", "leans")
    rows = (
        ("latency_p95<=1.2x", "satisfied", 29.4, 28.1, 33.7, 8120, 0.998, "satisfied"),
        ("error_rate<=0.01", "undecided", 0.004, 0.003, 0.01, 8120, 0.82, "satisfied"),
        ("cost_per_1000<=1.1x", "undecided", 0.031, 0.029, 0.0319, 8120, 0.61, "violated"),
    )
    return [dict(zip(keys, row, strict=True)) for row in rows]


def model(name: str) -> dict[str, Any]:
    versions = [version(name, str(number), f"{name}.v{number}") for number in (3, 2)]
    split = {f"{name}.v2": 7500, f"{name}.v3": 2500} if name == "resnet-50" else {}
    return {
        "name": name,
        "default": f"{name}.v2",
        "split": split,
        "shadow": None,
        "aliases": {"champion": f"{name}.v2"},
        "versions": versions,
    }


def version(name: str, number: str, key: str) -> dict[str, Any]:
    stats = {
        "requests_per_s": 212.0,
        "latency_p95_ms": 28.0 + int(number),
        "ongoing_requests": 5.0,
        "cpu_utilization": 41.0,
        "gpu_utilization": 72.0,
    }
    replica = {"address": "10.0.0.7:9000", "node_id": "n1", "flavor": "t4", "is_bridge": False, "stats": stats}
    places = [
        {"flavor": "t4", "tier": "warm", "p95_ms": 0.46, "usd_per_h": 0.526, "source": "measured", "twin": False},
        {"flavor": "a100-80g", "tier": "hot", "p95_ms": 0.12, "usd_per_h": 3.67, "source": "predicted", "twin": False},
    ]
    prior = {"cost": {"flops": 8.2e9, "moved_bytes": 6.1e7, "dtype": "fp16"}, "domain": "cv"}
    placement = {"flavor": "t4", "tier": "warm", "is_twin": False, "why": "p95 29 ms at the lowest price", "places": places, "prior": prior}
    return {
        "version": number,
        "deployment": key,
        "state": "ready",
        "why": "",
        "user": "ann",
        "created_s": time.time() - 86_400 * int(number),
        "source": "",
        "settings": {"replicas": 2},
        "placement": placement,
        "platform": "onnxruntime",
        "kind": "onnx",
        "inputs": [],
        "outputs": [],
        "replicas": [{**replica, "id": f"{key}.{index}"} for index in range(2)],
        "decisions": [{"at": time.time() - 400, "text": f"2 replicas: 5.0 ongoing of {name} against a target of 6"}],
    }


def policies() -> list[dict[str, Any]]:
    applied_s = time.time() - 4000.0
    return [
        {"version": number, "document": POLICY.replace("3", str(number)), "by": "ann", "applied_s": applied_s - 86_400 * (3 - number)}
        for number in (3, 2, 1)
    ]


def what_if(ran_s: float) -> dict[str, Any]:
    form: dict[str, Any] = dict.fromkeys(WHAT_IF_KEYS)
    form |= {
        "id": "1",
        "state": "running",
        "progress": min(1.0, ran_s / 1.5),
        "since_s": 86_400.0,
        "by": "ann",
        "began_s": time.time() - ran_s,
    }
    if ran_s < 1.5:
        return form
    current, proposed = ((9_812, 3.42, 21.4, 91_200.0, 18_240.0, 0.713, 41, 212), (9_812, 2.61, 24.9, 90_100.0, 18_790.0, 0.742, 17, 268))
    sides = {name: dict(zip(SIDE_KEYS, row, strict=True)) for name, row in (("current", current), ("proposed", proposed))}
    left_out = {"not_succeeded": 304, "unknown_queue": 12}
    recorded = {"jct_h": 3.51, "makespan_s": 91_900.0}
    return form | {"state": "done", "took_s": 1.5, "jobs": 9_812, "left_out": 316, "left_out_why": left_out, "recorded": recorded, **sides}


def usage(by: str) -> dict[str, Any]:
    rows = (
        _models_used() if by == "model" else _held(("research", "prod", "batch") if by == "queue" else ("ann", "bob", "cho", "<b>fay</b>"))
    )
    return {"by": by, "rows": rows, "now_s": time.time()}


def _held(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "pending": 410 * place,
            "running": 90 // place,
            "ended": 2100 * place,
            "units": 640.0 / place,
            "accelerator_hours": 18_400.0 / place,
            "vcpu_hours": 52_000.0 / place,
            "cost_usd": 41_300.5 / place,
            "share_frac": 0.5 / place,
            "weight": 2.0,
            "budget_usd": 60_000.0 if place == 1 else None,
            "budget_left_usd": 18_699.5 if place == 1 else None,
        }
        for place, name in enumerate(names, 1)
    ]


def _models_used() -> list[dict[str, Any]]:
    rows = (
        ("resnet-50", "ann", 4, 2.1, 1_204_331, 412, 96.0, {"t4": 96.0}, 50.5, 0.042, 0.8, 86_400.0),
        (HOSTILE, "bob", 4, 2.1, 8_120, 3, 24.0, {"t4": 24.0}, 12.6, 1.55, 0.2, 86_400.0),
    )
    return [dict(zip(MODEL_ROW_KEYS, row, strict=True)) for row in rows]
