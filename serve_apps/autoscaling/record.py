"""One decision of the autoscaler as it is kept and shown: from how many replicas to how many, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ABOVE_TARGET = "AboveTarget"
RISING = "Rising"
BELOW_TARGET = "BelowTarget"
IDLE = "Idle"
WOKEN = "Woken"
OUT_OF_REACH = "TargetOutOfReach"
BOUNDS = "Bounds"

_UNITS = {"cpu_utilization": " %", "gpu_utilization": " %", "ongoing_requests": " requests", "latency_p95": " ms", "idle_s": " s"}
_WORDS = {
    ABOVE_TARGET: "{metric} was {value}, above the target of {target}",
    RISING: "{metric} was {value} and rising: above the target of {target} before a replica more could have started",
    BELOW_TARGET: "{metric} was {value}, below the target of {target}, and fewer replicas would have met it for a while",
    IDLE: "no request for {value}, longer than {target}",
    WOKEN: "a request came while there was no replica",
    OUT_OF_REACH: "{metric} was {value}; the model alone takes longer than the target of {target}: more replicas only shorten the queue",
    BOUNDS: "the bounds of autoscale ask for it",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """`at_s`: wall clock. `value`: the metric's mean per replica when it was decided, in the metric's unit, as `target`."""

    at_s: float
    num_from: int
    num_to: int
    reason: str
    metric: str
    value: float
    target: float

    def as_json(self) -> dict[str, Any]:
        """The form in which it is told: `{at, from, to, reason, metric, value, target}`."""
        return {
            "at": self.at_s,
            "from": self.num_from,
            "to": self.num_to,
            "reason": self.reason,
            "metric": self.metric,
            "value": round(self.value, 3),
            "target": self.target,
        }


def explain_decision(record: Mapping[str, Any]) -> str:
    """`2 -> 4 replicas: cpu_utilization was 131 %, above the target of 70 %`, from a record in its JSON form."""
    unit = _UNITS.get(record["metric"], "")
    words = _WORDS.get(record["reason"], record["reason"])
    told = words.format(metric=record["metric"], value=f"{record['value']:.3g}{unit}", target=f"{record['target']:.3g}{unit}")
    return f"{record['from']} -> {record['to']} replicas: {told}"
