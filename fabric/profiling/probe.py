"""Runs the child that looks at a target and runs it, under a cap; what hangs is killed, and what was found until then is kept."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from fabric import errors
from fabric.codec import decode, dumps, loads
from fabric.errors import FabricError, RuntimeFault
from fabric.profiling.findings import Findings, Measured, Order, Problem
from fabric.running.process import Process
from fabric.types import Fingerprint
from profiler.model_facts import ModelFacts
from profiler.roofline import Cost

GRACE_S = 1.0
TAIL_CHARS = 2000
_PARTS: Mapping[str, Any] = {
    "fingerprint": Fingerprint,
    "facts": ModelFacts,
    "cost": Cost,
    "measured": Measured,
    "problem": Problem,
    "task_name": str,
    "task_key": str,
    "input_bytes": int,
    "library": str,
}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")


def run_probe(order: Order, *, timeout_s: float) -> tuple[Findings, str]:
    """(what was found, the last of what the target printed). A target that outlives `timeout_s` is killed with all that it started,
    and its `measured.outcome` is `timeout`. Raises nothing for what the target does: see `findings.problem`."""
    with tempfile.TemporaryDirectory(prefix="fabric-profile-") as scratch:
        found, order_path, log = (Path(scratch) / name for name in ("found", "order", "log"))
        order_path.write_text(dumps(replace(order, found=str(found))), encoding="utf-8")
        found.touch()
        env = {**os.environ, **dict.fromkeys(_THREADS, str(order.num_cpus)), "PYTHONUNBUFFERED": "1"}
        # -P: a module of the present directory that is called as one of ours is (`profiler`) must not take its place.
        command = [sys.executable, "-P", "-m", "fabric.profiling.child", str(order_path)]
        with log.open("wb") as output:
            process = Process(command, cwd=Path.cwd(), env=env, output=output)
            code, peak_bytes = _watched(process, timeout_s)
        findings = _read(found)
        tail = log.read_text(encoding="utf-8", errors="replace")[-TAIL_CHARS:]
    if code is None and findings.measured.outcome == "skipped":
        problem = f"killed at its cap of {timeout_s:g} s"
        findings = replace(findings, measured=Measured("timeout", (), None, peak_bytes or None, num_cpus=order.num_cpus, problem=problem))
    elif code is not None and code > 1 and findings.problem is None:
        died = f"signal {code - 128}" if code > 128 else f"exit code {code}"
        hint = "SIGKILL (9) is often the kernel out of memory" if code == 137 else "--debug shows what it printed"
        findings = replace(findings, problem=Problem("RuntimeFault", "probe_died", f"{order.name} ended its process: {died}", hint))
    elif code == 1 and findings.problem is None and findings.measured.outcome == "skipped":
        findings = replace(
            findings, problem=Problem("BugError", "bug", f"the probe of {order.name} failed", "--debug shows what it printed")
        )
    return findings, tail


def raise_problem(problem: Problem, printed: str) -> NoReturn:
    """Raise what the probe met as it was raised there; `--debug` shows what was printed, the traceback last."""
    kind = getattr(errors, problem.family, RuntimeFault)
    is_ours = isinstance(kind, type) and issubclass(kind, FabricError)
    error = (kind if is_ours else RuntimeFault)(problem.message, code=problem.code, hint=problem.hint)
    if printed.strip():
        error.add_note(f"the last that the probe printed:\n{printed.rstrip()}")
    raise error


def _watched(process: Process, timeout_s: float) -> tuple[int | None, int]:
    """(exit code, or None where it was killed at its cap; the most memory that its processes were seen to hold)."""
    ends_s = time.monotonic() + timeout_s
    peak_bytes, code = 0, None
    try:
        while code is None and time.monotonic() < ends_s:
            code = process.wait(min(0.2, max(ends_s - time.monotonic(), 0.01)))
            peak_bytes = max(peak_bytes, process.memory_bytes())
    finally:
        if code is None:
            process.terminate(GRACE_S)
            with contextlib.suppress(KeyboardInterrupt):
                process.wait(GRACE_S + 5.0)
    return code, peak_bytes


def _read(path: Path) -> Findings:
    findings = Findings()
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # the last line may be half written
            for name, value in loads(line).items():
                findings = replace(findings, **{name: decode(_PARTS[name], value)})
    return findings
