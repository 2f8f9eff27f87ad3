"""From a target to its report: probe it, ask the fabric what it knows, put both together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fabric.config import FabricConfig
from fabric.errors import RuntimeFault
from fabric.profiling.findings import Findings, Order
from fabric.profiling.forecast import Situation, report
from fabric.profiling.known import Stored, cost_of
from fabric.profiling.probe import raise_problem, run_probe
from fabric.profiling.target import Target
from fabric.types import Device, Flavor, name_of
from pools import probe_cpu
from pools.flavors import flavor_of_device, load_catalogue
from profiler.roofline import Cost


@dataclass(frozen=True, slots=True)
class Counted:
    """What one call of a task computes and moves, with inputs of so many bytes (see `fabric.sizes`)."""

    task: str
    input_bytes: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Profiled:
    """The form, and what went wrong with the run, to be said after it. `printed`: the last of what the target printed. `counted`: what
    the fabric does not know yet of a task of its own."""

    form: Mapping[str, Any]
    failure: RuntimeFault | None = None
    printed: str = ""
    counted: Counted | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """How the command was asked. `order` without its kind and name."""

    order: Order = field(default_factory=lambda: Order("", "", ""))
    dtype: str | None = None
    timeout_s: float = 60.0
    is_all: bool = False


def profile_target(target: Target, wish: Wish, config: FabricConfig, stored: Stored | None = None) -> Profiled:
    """Raises: what the probe met before there was anything to report (see `fabric.errors`)."""
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    findings, printed = Findings(), ""
    if target.kind != "task":
        findings, printed = run_probe(replace(wish.order, kind=target.kind, name=target.name), timeout_s=wish.timeout_s)
        if findings.problem is not None:
            raise_problem(findings.problem, printed)
    known = stored.find(findings.task_name or target.name) if stored is not None else None
    if target.kind == "task":
        known = (stored or Stored((), (), frozenset())).must_find(target.name)
        findings = Findings(cost=cost_of(known))
    here = _here(catalogue, findings) if findings.measured.outcome != "skipped" else None
    shown = stored.flavors if stored is not None and not wish.is_all else tuple(catalogue)
    situation = Situation(
        catalogue,
        tuple(name for name in dict.fromkeys((*shown, here)) if name in catalogue),
        here,
        wish.order.num_cpus,
        wish.dtype,
        known,
        stored.twins if stored else frozenset(),
    )
    counted = _counted(findings, stored)
    notes = () if counted is None else (f"the fabric keeps what {name_of(counted.task)} computes: `fabric console` draws its roofline",)
    form = report(target.name, target.kind, findings, situation, batch=wish.order.batch, notes=notes)
    return Profiled(form, _failure(target, findings, wish), printed, counted)


def _counted(findings: Findings, stored: Stored | None) -> Counted | None:
    """Of code that the fabric has run: its task's key tells."""
    if findings.cost is None or stored is None or findings.task_key not in {profile.task for profile in stored.profiles}:
        return None
    return Counted(findings.task_key, findings.input_bytes, findings.cost)


def _here(catalogue: Mapping[str, Flavor], findings: Findings) -> str | None:
    """The flavor of what the probe ran on: the GPU that it used, else this machine's CPU."""
    if findings.measured.device:
        return flavor_of_device(catalogue, Device("gpu", findings.measured.device, 1))
    wanted = frozenset(flag for flavor in catalogue.values() for flag in flavor.isa)
    cpu = next((found for found in probe_cpu.probe(wanted=wanted) if isinstance(found, Device)), None)
    return flavor_of_device(catalogue, cpu) if cpu is not None else None


def _failure(target: Target, findings: Findings, wish: Wish) -> RuntimeFault | None:
    seen = findings.measured
    if seen.outcome == "timeout":
        hint = "a longer --timeout, smaller inputs (--args, --shape), or --no-run"
        message = f"{target.name} was killed at its cap of {wish.timeout_s:g} s"
        return RuntimeFault(message, code="probe_timeout", hint=hint, timeout_s=wish.timeout_s)
    if seen.outcome == "oom":
        return RuntimeFault(f"{target.name} ran out of memory here", code="probe_out_of_memory", hint="smaller inputs, or a larger machine")
    if seen.outcome == "error":
        return RuntimeFault(f"{target.name}: {seen.problem}", code="probe_failed", hint="what it printed is above")
    return None
