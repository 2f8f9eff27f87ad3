"""Pure: from what a probe found and what the fabric has stored to a row of figures for each flavor.

Where FLOPs are known the roofline predicts, corrected by every measured run on real hardware; else the measured runs and the
estimator's own prior do, as they do for the router. Without either there are no rows: a figure that nothing stands behind is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabric.profiling.findings import Findings
from fabric.sizes import UNKNOWN
from fabric.types import Estimate, Fingerprint, Flavor, Resources, Variant
from profiler.estimate import Measured, Predictor, TaskProfile, log_speedup
from profiler.roofline import LEAST_NOISE_LOG_SD, Cost, Parts, corrected, is_converted, memory_bytes_as, parts, predict, runs_as

_OTHER_DTYPE_LOG_SD = 0.2


@dataclass(frozen=True, slots=True)
class Situation:
    """`here`: the flavor that the probe's runs were on, None where there is no such flavor. `stored`: what the fabric has measured
    of this task. `twins`: flavors that are stood in for here. `shown`: the flavors that get a row."""

    catalogue: Mapping[str, Flavor]
    shown: tuple[str, ...]
    here: str | None = None
    num_cpus: int = 1
    dtype: str | None = None
    stored: TaskProfile | None = None
    twins: frozenset[str] = field(default_factory=frozenset)


def report(
    target: str, kind: str, findings: Findings, situation: Situation, *, batch: int = 1, notes: Iterable[str] = ()
) -> dict[str, Any]:
    """The form of `fabric.profiling.report`."""
    facts, cost, seen = findings.facts, findings.cost, findings.measured
    fingerprint = findings.fingerprint or (situation.stored.fingerprint if situation.stored else Fingerprint())
    estimates = _estimates(cost, findings, situation, fingerprint)
    local = _runs(findings, situation)[1]
    cpu_only = facts.cpu_only if facts is not None else ()
    wanted = [name for name in situation.shown if name in estimates or cost is not None] if estimates else []
    wanted = [name for name in wanted if situation.catalogue[name].is_cpu or not cpu_only]
    rows = [_row(situation.catalogue[name], estimates.get(name), cost, situation, is_local=name in local) for name in wanted]
    rows.sort(key=lambda row: (row["run_s"] is None, row["usd_per_1000"] is None, row["usd_per_1000"] or row["run_s"] or 0.0))
    told = [*(facts.notes if facts else ()), *notes, *_notes(rows, cost, findings, situation)]
    measured = seen.estimate
    return {
        "target": target,
        "kind": kind,
        "domain": fingerprint.domain,
        "phase": fingerprint.phase,
        "evidence": list(fingerprint.evidence),
        "inputs": [{"name": i.name, "dtype": i.dtype, "shape": list(i.shape)} for i in (facts.inputs if facts else ())],
        "batch": batch,
        "parameters": facts.num_parameters if facts else None,
        "dtype": cost.dtype if cost else None,
        "flops": cost.flops if cost else None,
        "moved_bytes": cost.moved_bytes if cost else None,
        "intensity": cost.intensity if cost else None,
        "num_kernels": cost.num_kernels if cost else None,
        "weights_bytes": (cost.weights_bytes or None) if cost else None,
        "memory_bytes": (cost.memory_bytes or None) if cost else None,
        "peak_memory_bytes": seen.peak_memory_bytes,
        "measured": {
            "outcome": seen.outcome,
            "runs": len(seen.walls_s),
            "run_s": measured.run_s if measured else None,
            "run_log_sd": measured.log_sd if measured else None,
            "cpu_s": seen.cpu_s,
            "peak_memory_bytes": seen.peak_memory_bytes,
            "base_memory_bytes": seen.base_memory_bytes,
            "flavor": situation.here,
            "num_cpus": seen.num_cpus,
            "device": seen.device,
            "device_memory_bytes": seen.device_memory_bytes,
            "problem": seen.problem,
        },
        "flavors": rows,
        "cheapest": _best(rows, "usd_per_1000"),
        "fastest": _best(rows, "run_s"),
        "rivals": {"cheapest": _rivals(rows, "usd_per_1000"), "fastest": _rivals(rows, "run_s")},
        "notes": told,
    }


def _estimates(cost: Cost | None, findings: Findings, situation: Situation, fingerprint: Fingerprint) -> dict[str, Estimate]:
    stored, local = _runs(findings, situation)
    if cost is None:
        can_accelerate = bool(findings.library or findings.facts)
        return _by_runs(situation.stored, local, situation, fingerprint, can_accelerate) if stored or local else {}
    # What ran on a twin is that flavor's figure in this fabric; it teaches nothing about any hardware.
    on_twins = {name: seen for name, seen in stored.items() if name in situation.twins}
    real = {**local, **{name: seen for name, seen in stored.items() if name not in on_twins}}
    prior = _priors(cost, situation, None)
    after = corrected(prior, real, situation.catalogue, noise_log_sd=_noise(findings) if local else LEAST_NOISE_LOG_SD)
    if situation.dtype in (None, cost.dtype):
        return {**after, **on_twins}
    # All that ran was the model as it is: in the precision that was asked for, each flavor errs by the same factor, if not quite.
    asked = _priors(cost, situation, situation.dtype)
    ratios = {name: after[name].run_s / prior[name].run_s for name in asked}
    return {
        name: guess._replace(run_s=guess.run_s * ratios[name], log_sd=math.hypot(after[name].log_sd, _OTHER_DTYPE_LOG_SD))
        for name, guess in asked.items()
    }


def _noise(findings: Findings) -> float:
    """How far the runs here may be off as figures of their flavor: a busy machine makes them too long."""
    seen = findings.measured
    if not _was_busy(findings) or seen.estimate is None or not seen.cpu_s:
        return LEAST_NOISE_LOG_SD
    return max(LEAST_NOISE_LOG_SD, math.log(seen.estimate.run_s / seen.cpu_s))


def _was_busy(findings: Findings) -> bool:
    """Whether one thread of work got much less of a CPU than it could have used. Of other code it may be waiting that it asked for."""
    seen = findings.measured
    if seen.estimate is None or seen.cpu_s is None or seen.num_cpus > 1 or seen.device:
        return False
    return seen.cpu_s < 0.7 * seen.estimate.run_s


def _priors(cost: Cost, situation: Situation, dtype: str | None) -> dict[str, Estimate]:
    flavors = {name: situation.catalogue[name] for name in {*situation.shown, *filter(None, [situation.here])}}
    guesses = {name: predict(cost, flavor, dtype=dtype, units=_units(flavor, situation)) for name, flavor in flavors.items()}
    return {name: guess for name, guess in guesses.items() if guess is not None}


def _runs(findings: Findings, situation: Situation) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """What the fabric has measured, and what was measured here; of one flavor the fabric's counts."""
    stored = stored_runs(situation.stored) if situation.stored is not None else {}
    here, seen = situation.here, findings.measured.estimate
    return stored, ({here: seen} if seen is not None and here is not None and here not in stored else {})


def stored_runs(profile: TaskProfile) -> dict[str, Estimate]:
    """Of each flavor the best variant's runs, at the size of argument that ran most often."""
    if not profile.measured:
        return {}
    bucket = commonest(profile)
    found: dict[str, Estimate] = {}
    for (row_bucket, _, flavor), seen in profile.measured.items():
        estimate = Estimate(math.exp(seen.mean), math.sqrt(seen.var), seen.num_runs, seen.peak_memory_bytes)
        if row_bucket == bucket and (flavor not in found or estimate.run_s < found[flavor].run_s):
            found[flavor] = estimate
    return found


def commonest(profile: TaskProfile) -> int:
    """The size of argument that ran most often."""
    runs: dict[int, int] = {}
    for (bucket, _, _), seen in profile.measured.items():
        runs[bucket] = runs.get(bucket, 0) + seen.num_runs
    return max(runs, key=lambda bucket: (runs[bucket], -bucket)) if runs else UNKNOWN


def _by_runs(
    stored: TaskProfile | None, local: Mapping[str, Estimate], situation: Situation, fingerprint: Fingerprint, can_accelerate: bool
) -> dict[str, Estimate]:
    """As the router predicts: from the runs there are, by the domain's prior. Accelerators are left out where nothing that ran could
    use one; else they are taken to run a variant made for them."""
    profile = TaskProfile(stored.task if stored else "", fingerprint)
    profile.variants = dict(stored.variants) if stored else {}
    profile.measured = dict(stored.measured) if stored else {}
    profile.forecasts = stored.forecasts if stored else {}
    bucket = commonest(profile)
    for name, seen in local.items():
        row = Measured(float(seen.num_runs), math.log(seen.run_s), seen.log_sd**2, seen.num_runs, seen.peak_memory_bytes or 0)
        profile.measured[(bucket, "here", name)] = row
        profile.variants["here"] = _variant(situation.catalogue[name], situation, "here")
    predictor = Predictor(profile, situation.catalogue, bucket, *_base(local, situation, fingerprint))
    found = {}
    for name in {*situation.shown, *local}:
        flavor = situation.catalogue[name]
        ran = [variant for _, variant, seen in profile.measured if seen == name]
        if ran or flavor.is_cpu or (can_accelerate and fingerprint.domain != "other"):
            variant = profile.variants.get(ran[0]) if ran else None
            found[name] = predictor.estimate(flavor, variant or _variant(flavor, situation, "assumed"))
    return {**found, **local}


def _base(local: Mapping[str, Estimate], situation: Situation, fingerprint: Fingerprint) -> tuple[float, ...]:
    """The estimator's own guess of a call's length is worth nothing beside a run: log seconds on its reference CPU by that run."""
    for name, seen in local.items():
        flavor = situation.catalogue[name]
        return (math.log(seen.run_s) + log_speedup(flavor, _variant(flavor, situation, "here"), fingerprint.domain),)
    return ()


def _variant(flavor: Flavor, situation: Situation, name: str) -> Variant:
    if flavor.is_cpu:
        return Variant(name, "", Resources(num_cpus=float(situation.num_cpus)))
    return Variant(name, flavor.name, Resources(num_cpus=1.0, custom=((flavor.resource, flavor.units),)))


def _units(flavor: Flavor, situation: Situation) -> float:
    return float(situation.num_cpus) if flavor.is_cpu else 1.0


def _row(flavor: Flavor, estimate: Estimate | None, cost: Cost | None, situation: Situation, *, is_local: bool) -> dict[str, Any]:
    units = _units(flavor, situation)
    spent: Parts | None = parts(cost, flavor, dtype=situation.dtype, units=units) if cost else None
    dtype = spent.dtype if spent else runs_as(situation.dtype or cost.dtype, flavor) if cost else None
    row: dict[str, Any] = {
        "tier": flavor.tier,
        "flavor": flavor.name,
        "kind": flavor.kind,
        "units": units,
        "twin": flavor.name in situation.twins and not is_local,
        "dtype": dtype,
        **dict.fromkeys(("run_s", "run_log_sd", "calls_per_s", "usd_per_1000", "limit", "source")),
        "runs": 0,
        "note": "",
    }
    if estimate is None:
        return {**row, "note": "its peaks are not known"}
    need_bytes = memory_bytes_as(cost, dtype) if cost and dtype else 0
    if flavor.memory_bytes is not None and need_bytes > flavor.memory_bytes:
        return {**row, "note": f"does not fit: needs {need_bytes / 2**30:.3g} GiB, has {flavor.memory_bytes / 2**30:.3g} GiB"}
    is_measured = estimate.num_runs > 0
    usd = None if flavor.usd_per_h is None else estimate.run_s * flavor.usd_per_h * units / 3.6
    return {
        **row,
        "run_s": estimate.run_s,
        "run_log_sd": estimate.log_sd,
        "calls_per_s": 1.0 / estimate.run_s,
        "usd_per_1000": usd,
        "limit": None if is_measured or spent is None else spent.limit,
        "source": "measured" if is_measured else "predicted",
        "runs": estimate.num_runs,
        "note": _run_note(flavor, situation, is_local) if is_measured else _note(flavor, cost, spent, situation),
    }


def _run_note(flavor: Flavor, situation: Situation, is_local: bool) -> str:
    if is_local:
        return "here"
    return "on a twin" if flavor.name in situation.twins else ""


def _note(flavor: Flavor, cost: Cost | None, spent: Parts | None, situation: Situation) -> str:
    if cost is not None and spent is not None and is_converted(situation.dtype or cost.dtype, spent.dtype):
        return f"once made {spent.dtype}"
    return "if it is written for it" if cost is None and not flavor.is_cpu else ""


def _notes(rows: list[dict[str, Any]], cost: Cost | None, findings: Findings, situation: Situation) -> Iterable[str]:
    seen = findings.measured
    if _was_busy(findings):
        is_model = findings.facts is not None
        busy = "this machine was busy: the measured time is longer than the work needs"
        yield busy if is_model else "it waited for most of a run's time: for input, or for a busy machine"
    if seen.estimate and len(seen.walls_s) == 1 and findings.task_name:
        yield "one run, the first: what a first run sets up is in its time (--repeat 5 runs it more often)"
    if any(row["source"] == "predicted" and row["run_log_sd"] > 0.4 for row in rows):
        yield "± of a prediction: in two cases of three the true time is within this factor of it; of measured runs: their spread"
    if findings.facts is not None and findings.facts.cpu_only:
        yield f"no accelerator is shown: none runs {', '.join(findings.facts.cpu_only[:3])}"
    elif rows and cost is None and all(row["kind"] == "cpu" for row in rows):
        yield "no accelerator is shown: FLOPs are not known, and nothing was seen that would use one"
    if any(row["limit"] == "launches" for row in rows[:1]):
        yield "most of the time goes to launching operations, not to computing: larger batches cost less per item"


def _best(rows: list[dict[str, Any]], key: str) -> str | None:
    known = [row for row in rows if row[key] is not None]
    return min(known, key=lambda row: row[key])["flavor"] if known else None


def _rivals(rows: list[dict[str, Any]], key: str) -> list[str]:
    """The flavors whose figure can't be told from the best one's: nearer than the doubt of both."""
    known = sorted((row for row in rows if row[key] is not None), key=lambda row: row[key])
    doubts = [math.hypot(known[0]["run_log_sd"], row["run_log_sd"]) for row in known]
    return [row["flavor"] for row, doubt in zip(known[1:], doubts[1:], strict=True) if math.log(row[key] / known[0][key]) < doubt]
