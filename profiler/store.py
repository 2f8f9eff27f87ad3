"""Profiles to plain documents and back, so that a database can hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fabric.sizes import UNKNOWN
from fabric.types import Fingerprint, Resources, Variant
from profiler.estimate import Measured, TaskProfile
from profiler.needs import Needs, Use
from profiler.roofline import Cost

VERSION = 2


def to_document(profile: TaskProfile) -> dict[str, Any]:
    """A JSON-ready form of one profile."""
    return {
        "version": VERSION,
        "task": profile.task,
        "domain": profile.fingerprint.domain,
        "phase": profile.fingerprint.phase,
        "evidence": list(profile.fingerprint.evidence),
        "variants": [
            {
                "name": v.name,
                "flavor": v.flavor,
                "num_cpus": v.resources.num_cpus,
                "num_gpus": v.resources.num_gpus,
                "memory_bytes": v.resources.memory_bytes,
                "custom": [list(pair) for pair in v.resources.custom],
                "code_hash": v.code_hash,
                "auto": list(v.auto),
            }
            for v in profile.variants.values()
        ],
        "measured": [
            [bucket, variant, flavor, m.weight, m.mean, m.var, m.num_runs, m.peak_memory_bytes]
            for (bucket, variant, flavor), m in profile.measured.items()
        ],
        "needs": {
            variant: [needs.runs, [[size, *floor] for size, floor in needs.floors.items()], needs.uses]
            for variant, needs in profile.needs.items()
        },
        "costs": [[bucket, dataclasses.asdict(cost)] for bucket, cost in profile.costs.items()],
        "as_of_s": profile.as_of_s,
    }


def from_document(document: Mapping[str, Any]) -> TaskProfile:
    """The profile of a document that `to_document` made, of this or an earlier version.

    Raises: KeyError, TypeError, ValueError where it is not one.
    """
    if document["version"] > VERSION:
        raise ValueError(f"profile version {document['version']}, this code reads {VERSION}")
    variants = [_variant(row) for row in document["variants"]]
    profile = TaskProfile(
        task=document["task"],
        fingerprint=Fingerprint(document["domain"], document["phase"], tuple(document["evidence"])),
        variants={variant.name: variant for variant in variants},
        costs={bucket: Cost(**cost) for bucket, cost in document.get("costs", ())},
        as_of_s=document.get("as_of_s"),
    )
    for variant, (runs, floors, uses) in document.get("needs", {}).items():
        profile.needs[variant] = Needs(
            [(size, need) for size, need in runs],
            {size: (failed, needed) for size, failed, needed in floors},
            [Use(*use) for use in uses],
        )
    for variant, floor in document.get("memory_floor_bytes", {}).items():  # version 0.1 kept twice what had failed, for all sizes
        profile.needs.setdefault(variant, Needs()).floors[UNKNOWN] = (floor // 2, 0)
    for bucket, variant, flavor, *figures in document["measured"]:
        profile.measured[(bucket, variant, flavor)] = Measured(*figures)
    return profile


def _variant(row: Mapping[str, Any]) -> Variant:
    custom = tuple((str(name), float(amount)) for name, amount in row["custom"])
    resources = Resources(row["num_cpus"], row["num_gpus"], row["memory_bytes"], custom)
    return Variant(row["name"], row["flavor"], resources, row.get("code_hash", ""), tuple(row.get("auto", ())))
