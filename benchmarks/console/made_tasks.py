"""Profiles of tasks of a made-up fabric: functions with a few variants, a served model whose file tells FLOPs. Pure."""

from __future__ import annotations

import math
import random

from benchmarks.console.made_answers import HOSTILE
from fabric.types import Domain, Fingerprint, Phase, Resources, Variant, model_task
from profiler.estimate import Measured, TaskProfile

ON_CPU = Variant("default", "", Resources(num_cpus=4))
ON_GPU = Variant("cuda", "gpu", Resources(num_gpus=1))
SERVED = "resnet-50.v2"
_NAMED: tuple[tuple[str, Domain, Phase, dict[str, float], int], ...] = (
    # name, domain, phase, seconds by flavor, runs
    ("clean_rows", "tabular", "inference", {"cpu": 0.42}, 2400),
    ("embed", "nlp", "inference", {"a100-80g": 0.011, "t4": 0.052, "cpu": 0.61}, 1850),
    ("fine_tune", "nlp", "training", {"a100-80g": 41.0}, 12),
    (f"detect {HOSTILE}", "cv", "inference", {"t4": 0.031, "cpu": 0.38}, 260),
    ("never_ran", "other", "inference", {}, 0),
)


def task_profiles(num: int = 40, seed: int = 1) -> list[TaskProfile]:
    """Those that have a name of their own, a served model, and others up to `num` in all."""
    chance = random.Random(seed)
    made = [_profile(f"{name}@{number:08x}", *rest) for number, (name, *rest) in enumerate(_NAMED, start=0x5EED)]
    served = TaskProfile(
        model_task(SERVED),
        Fingerprint("cv", "inference", ("Conv",)),
        {kind: Variant(kind, kind, Resources(num_cpus=4)) for kind in ("gpu", "cpu")},
    )
    served.measured = {(7, "gpu", "t4"): _seen(0.00046, 900), (7, "cpu", "cpu"): _seen(0.094, 120)}
    made.append(served)
    while len(made) < num:
        run_s = chance.lognormvariate(0.0, 2.0)
        made.append(
            _profile(f"step_{len(made)}@{chance.getrandbits(32):08x}", "other", "inference", {"cpu": run_s}, chance.randrange(1, 200))
        )
    return made


def _profile(task: str, domain: Domain, phase: Phase, times: dict[str, float], runs: int) -> TaskProfile:
    evidence = {"nlp": ("imports transformers",), "cv": ("imports torchvision",), "tabular": ("calls DataFrame.groupby",)}.get(domain, ())
    profile = TaskProfile(task, Fingerprint(domain, phase, evidence), {"default": ON_CPU, **({"cuda": ON_GPU} if len(times) != 1 else {})})
    for flavor, run_s in times.items():
        profile.measured[(5, "default" if flavor == "cpu" else "cuda", flavor)] = _seen(run_s, max(1, runs // len(times)))
        if flavor != "cpu":
            profile.variants["cuda"] = ON_GPU
    return profile


def _seen(run_s: float, runs: int) -> Measured:
    return Measured(min(float(runs), 50.0), math.log(run_s), 0.15**2, runs, 900 * 2**20)
