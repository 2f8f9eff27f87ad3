"""Published tables as profiles: what Gavel and MLPerf measured teaches a fabric how its accelerators compare, before it has run anything.

A row becomes a task of its own, `gavel/ResNet-50@batch 64` or `mlperf/bert`, that no user calls: it is read by `profiler.sharing`,
like every other task, and outweighed by what this fabric measures itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fabric.types import Domain, Fingerprint, Phase, Resources, Variant
from profiler.estimate import Measured, TaskProfile
from profiler.transfer import Row

VARIANT = Variant("published", "", Resources(num_gpus=1))
LOG_4 = math.log(4.0)
DOMAINS: tuple[tuple[str, Domain], ...] = (
    ("resnet", "cv"), ("ssd", "cv"), ("cyclegan", "cv"), ("3d-unet", "cv"), ("mobilenet", "cv"),
    ("transformer", "nlp"), ("bert", "nlp"), ("lm", "nlp"), ("rnnt", "nlp"),
    ("recommendation", "tabular"), ("dlrm", "tabular"),
)  # fmt: skip
"""What a model's name tells of its domain; the first that fits."""


def published_profiles(rows: Iterable[Row], source: str, phase: Phase) -> list[TaskProfile]:
    """One profile for each task of the rows. `source` goes before its name."""
    profiles: dict[str, TaskProfile] = {}
    for row in rows:
        of_batch = "" if row.log_size is None else f"@batch {round(math.exp(row.log_size))}"
        key = f"{source}/{row.family if of_batch else row.task}{of_batch}"
        fingerprint = Fingerprint(_domain(row.family), phase, (f"published by {source}",))
        profile = profiles.setdefault(key, TaskProfile(key, fingerprint, {VARIANT.name: VARIANT}))
        bucket = 0 if row.log_size is None else round(row.log_size / LOG_4)
        profile.measured[(bucket, VARIANT.name, row.flavor)] = Measured(float(row.num_runs), row.log_s, row.log_sd**2, row.num_runs)
    return list(profiles.values())


def _domain(family: str) -> Domain:
    name = family.lower()
    return next((domain for word, domain in DOMAINS if word in name), "other")
