"""Why a call went where it went: the route with every alternative's figures, and what was measured.

Everything is in one JSON form (`as_json`); the printed table, the CLI and later the console show nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fabric.blocks import Block, Lines, Table, text_of
from fabric.notebook import answer_html
from fabric.show import duration, percent_band, usd
from fabric.types import Alternative, Fingerprint, Route, Run, name_of

WORDS = {
    "BestScore": "lowest wait + run + cost",
    "OnlyFit": "nothing else may take it now",
    "Patience": "waits for it, and still finishes best",
    "Fallback": "the best one is busy, this one finishes sooner",
    "DomainPreference": "as good as the best, and what this domain prefers",
    "Probe": "tried once to learn its speed: what later calls may save is worth more",
    "NoVariant": "no variant for it",
    "Resources": "can never hold it",
    "NoNodes": "no ready node",
    "CpuHasRoom": "CPU work stays off accelerators while a CPU node has room",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One call's route. Prints as a table; `as_json` has the same figures under stable keys."""

    task: str
    fingerprint: Fingerprint
    route: Route
    measured: Run | None = None
    call_id: str = ""
    sum: str = ""
    """How the request for memory came about, where it was sized by measurements."""

    def as_json(self) -> dict[str, Any]:
        chosen = self.route.chosen
        return {
            "task": name_of(self.task),
            "key": self.task,
            "call_id": self.call_id,
            "domain": self.fingerprint.domain,
            "phase": self.fingerprint.phase,
            "evidence": list(self.fingerprint.evidence),
            "tier": chosen.tier,
            "flavor": chosen.flavor,
            "variant": chosen.variant,
            "reason": self.route.reason,
            "memory": self.sum or None,
            "twin": chosen.is_twin,
            "predicted": {"wait_s": chosen.wait_s, "run_s": chosen.run_s, "cost_usd": chosen.cost_usd},
            "measured": None if self.measured is None else _run_json(self.measured, chosen),
            "alternatives": [_alternative_json(alternative) for alternative in self.route.alternatives],
        }

    def blocks(self) -> list[Block]:
        """Reason and figures, then every alternative, the chosen one marked."""
        chosen = self.route.chosen
        twin = " (twin)" if chosen.is_twin else ""
        lines = [
            f"{name_of(self.task)}: {chosen.tier}/{chosen.flavor}{twin}, variant {chosen.variant}",
            f"reason: {self.route.reason} ({WORDS.get(self.route.reason, '')})",
            f"profile: {self.fingerprint.domain} {self.fingerprint.phase}" + _because(self.fingerprint.evidence),
            *([f"memory: {self.sum}"] if self.sum else []),
            f"predicted: wait {duration(chosen.wait_s)}, run {duration(chosen.run_s)}, cost {usd(chosen.cost_usd)}",
            f"measured:  {_measured_line(self.measured, chosen)}",
        ]
        columns = ["tier", "flavor", "variant", "wait", "run", "±", "runs", "cost", "note"]
        others = self.route.alternatives
        marked = next((i for i, alternative in enumerate(others) if alternative is chosen), None)
        rows = [_row(alternative, chosen) for alternative in others]
        return [Lines(lines), Table(columns, rows, ("wait", "run", "±", "runs", "cost"), marked=marked, is_framed=True)]

    def __str__(self) -> str:
        return text_of(self.blocks())

    def _repr_html_(self) -> str:
        return answer_html(self.blocks(), self.as_json())


def _measured_line(run: Run | None, chosen: Alternative) -> str:
    if run is None:
        return "- (not finished, or not reported yet)"
    cost = _measured_cost(run, chosen)
    asked = f" of {run.asked_bytes / 2**20:.0f}" if run.asked_bytes else ""
    memory = f"peak {run.peak_memory_bytes / 2**20:.0f}{asked} MiB"
    return f"run {duration(run.wall_s)}, CPU {duration(run.cpu_s)}, {memory}, cost {usd(cost)}, on node {run.node_id[:8]} ({run.outcome})"


def _measured_cost(run: Run, chosen: Alternative) -> float | None:
    if chosen.cost_usd is None or chosen.run_s <= 0:
        return None
    return chosen.cost_usd / chosen.run_s * run.wall_s


def _because(evidence: Sequence[str]) -> str:
    return f" ({'; '.join(evidence[:3])})" if evidence else ""


def _row(alternative: Alternative, chosen: Alternative) -> list[str]:
    twin = " twin" if alternative.is_twin else ""
    code = alternative.excluded
    note = "chosen" if alternative is chosen else f"{code}: {alternative.detail or WORDS[code]}" if code else ""
    if code is not None and alternative.score == float("inf"):
        return [alternative.tier, alternative.flavor + twin, alternative.variant, "-", "-", "-", "-", "-", note]
    figures = alternative.estimate
    return [
        alternative.tier,
        alternative.flavor + twin,
        alternative.variant,
        duration(alternative.wait_s),
        duration(alternative.run_s),
        percent_band(figures.log_sd),
        str(figures.num_runs),
        usd(alternative.cost_usd),
        note,
    ]


def _alternative_json(alternative: Alternative) -> dict[str, Any]:
    is_barred = alternative.score == float("inf")
    return {
        "tier": alternative.tier,
        "flavor": alternative.flavor,
        "variant": alternative.variant,
        "twin": alternative.is_twin,
        "wait_s": None if is_barred else alternative.wait_s,
        "run_s": None if is_barred else alternative.run_s,
        "run_log_sd": None if is_barred else alternative.estimate.log_sd,
        "num_runs": alternative.estimate.num_runs,
        "cost_usd": alternative.cost_usd,
        "excluded": alternative.excluded,
        "detail": alternative.detail,
    }


def _run_json(run: Run, chosen: Alternative) -> dict[str, Any]:
    return {
        "run_s": run.wall_s,
        "cpu_s": run.cpu_s,
        "peak_memory_bytes": run.peak_memory_bytes,
        "asked_memory_bytes": run.asked_bytes or None,
        "input_bytes": None if run.input_bytes < 0 else run.input_bytes,
        "page_faults": run.num_page_faults,
        "gpu_frac": run.gpu_frac,
        "gpu_memory_bytes": run.gpu_memory_bytes,
        "cost_usd": _measured_cost(run, chosen),
        "node_id": run.node_id,
        "flavor": run.flavor,
        "outcome": run.outcome,
    }
