"""Profiles as a Parquet table and back: one row for each (task, size bucket, variant, flavor), figures in columns.

For other fabrics, and for whoever would rather ask DuckDB or pandas: times are natural logarithms of seconds (`mean_log_s`,
`var_log_s`), so `exp(mean_log_s)` is the median. `needs` and `ooms`: see `profiler.needs`; `costs`: what a call of a size bucket
computes and moves, see `profiler.roofline`. A variant that has not run yet has a row without bucket and flavor.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from fabric.errors import UserError
from fabric.types import DOMAINS, PHASES, Fingerprint, Resources, Variant
from profiler.estimate import Measured, TaskProfile
from profiler.needs import Needs, Use
from profiler.roofline import DTYPES, Cost

FORMAT = b"tierfabric profiles"
VERSION = 1
_ARROW = {float: pa.float64(), int: pa.int64(), str: pa.string()}
_COST = tuple(get_type_hints(Cost).items())
SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("evidence", pa.list_(pa.string())),
        pa.field("as_of_s", pa.float64()),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("variant_flavor", pa.string(), nullable=False),
        pa.field("code_hash", pa.string(), nullable=False),
        pa.field("num_cpus", pa.float64(), nullable=False),
        pa.field("num_gpus", pa.float64(), nullable=False),
        pa.field("memory_bytes", pa.int64(), nullable=False),
        pa.field("auto", pa.list_(pa.string())),
        pa.field("custom", pa.map_(pa.string(), pa.float64())),
        pa.field("needs", pa.list_(pa.struct([("input_bytes", pa.int64()), ("peak_bytes", pa.int64())]))),
        pa.field("uses", pa.list_(pa.struct([("cpus", pa.float64()), ("gpu_frac", pa.float64()), ("gpu_bytes", pa.int64())]))),
        pa.field("ooms", pa.list_(pa.struct([("input_bytes", pa.int64()), ("failed_bytes", pa.int64()), ("needed_bytes", pa.int64())]))),
        pa.field("costs", pa.list_(pa.struct([("bucket", pa.int32()), *((name, _ARROW[kind]) for name, kind in _COST)]))),
        pa.field("bucket", pa.int32()),
        pa.field("flavor", pa.string()),
        pa.field("weight", pa.float64()),
        pa.field("mean_log_s", pa.float64()),
        pa.field("var_log_s", pa.float64()),
        pa.field("num_runs", pa.int64()),
        pa.field("peak_memory_bytes", pa.int64()),
    ],
    metadata={FORMAT: str(VERSION).encode()},
)


def write_parquet(file: Path, profiles: Iterable[TaskProfile]) -> int:
    """Write profiles to a file; returns how many rows that were. Raises: UserError `profile_file`."""
    rows = [row for profile in profiles for row in _rows(profile)]
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error}", code="profile_file", hint="choose another place") from error
    return len(rows)


def read_parquet(file: Path) -> list[TaskProfile]:
    """The profiles in a file that `write_parquet` wrote. Raises: UserError `profile_file`."""
    try:
        table = pq.read_table(file)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}", code="profile_file") from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file} is no Parquet file: {reason}", code="profile_file", hint="`fabric profiles export` writes one") from error
    version = (table.schema.metadata or {}).get(FORMAT)
    if version != str(VERSION).encode():
        found = "no profiles" if version is None else f"profiles of version {version.decode()}"
        raise UserError(f"{file} holds {found}, this release reads version {VERSION}", code="profile_file")
    profiles: dict[str, TaskProfile] = {}
    try:
        if "costs" not in table.column_names:  # as the first release wrote it
            table = table.add_column(SCHEMA.get_field_index("costs"), "costs", pa.nulls(len(table)))
        for row in table.cast(SCHEMA).to_pylist():
            _take(profiles, row)
    except (ValueError, pa.ArrowException) as error:
        raise UserError(f"{file}: {error}", code="profile_file", hint="export it anew; nothing of it was taken") from error
    return list(profiles.values())


def _rows(profile: TaskProfile) -> Iterable[dict[str, Any]]:
    seen = profile.fingerprint
    costs = [{"bucket": bucket, **dataclasses.asdict(cost)} for bucket, cost in profile.costs.items()]
    head: dict[str, Any] = {"task": profile.task, "domain": seen.domain, "phase": seen.phase, "evidence": list(seen.evidence)}
    head |= {"as_of_s": profile.as_of_s, "costs": costs}
    for variant in profile.variants.values():
        resources, needs = variant.resources, profile.needs.get(variant.name) or Needs()
        known = head | {
            "variant": variant.name,
            "variant_flavor": variant.flavor,
            "code_hash": variant.code_hash,
            "num_cpus": resources.num_cpus,
            "num_gpus": resources.num_gpus,
            "memory_bytes": resources.memory_bytes,
            "custom": list(resources.custom),
            "auto": list(variant.auto),
            "needs": [{"input_bytes": size, "peak_bytes": peak} for size, peak in needs.runs],
            "uses": [use._asdict() for use in needs.uses],
            "ooms": [
                {"input_bytes": size, "failed_bytes": failed, "needed_bytes": needed} for size, (failed, needed) in needs.floors.items()
            ],
        }
        measured = [(key, figures) for key, figures in profile.measured.items() if key[1] == variant.name]
        for (bucket, _, flavor), figures in measured:
            yield known | {
                "bucket": bucket,
                "flavor": flavor,
                "weight": figures.weight,
                "mean_log_s": figures.mean,
                "var_log_s": figures.var,
                "num_runs": figures.num_runs,
                "peak_memory_bytes": figures.peak_memory_bytes,
            }
        if not measured:
            yield known


def _take(profiles: dict[str, TaskProfile], row: dict[str, Any]) -> None:
    if row["domain"] not in DOMAINS or row["phase"] not in PHASES:
        raise ValueError(f"task {row['task']}: no domain {row['domain']!r} or phase {row['phase']!r}")
    fingerprint = Fingerprint(row["domain"], row["phase"], tuple(row["evidence"] or ()))
    profile = profiles.setdefault(row["task"], TaskProfile(row["task"], fingerprint, as_of_s=row["as_of_s"]))
    profile.costs = {cost.pop("bucket"): _cost(row["task"], cost) for cost in row["costs"] or ()}
    custom = tuple((name, amount) for name, amount in row["custom"] or ())
    resources = Resources(row["num_cpus"], row["num_gpus"], row["memory_bytes"], custom)
    name = row["variant"]
    profile.variants[name] = Variant(name, row["variant_flavor"], resources, row["code_hash"], tuple(row["auto"] or ()))
    if row["needs"] or row["ooms"] or row["uses"]:
        floors = {oom["input_bytes"]: (oom["failed_bytes"], oom["needed_bytes"]) for oom in row["ooms"] or ()}
        profile.needs[name] = Needs(
            [(run["input_bytes"], run["peak_bytes"]) for run in row["needs"] or ()], floors, [Use(**use) for use in row["uses"] or ()]
        )
    if row["flavor"] is None or row["bucket"] is None:
        return
    figures = [row[column] for column in ("weight", "mean_log_s", "var_log_s", "num_runs", "peak_memory_bytes")]
    if any(figure is None for figure in figures) or not (figures[0] > 0 and figures[2] >= 0 and figures[3] > 0 and abs(figures[1]) < 100):
        raise ValueError(f"task {row['task']} on {row['flavor']}: weight, time or runs are out of range")
    profile.measured[(row["bucket"], name, row["flavor"])] = Measured(*figures)


def _cost(task: str, figures: Mapping[str, Any]) -> Cost:
    if figures["dtype"] not in DTYPES or not all(0 <= (value or -1) < math.inf for value in (figures["flops"], figures["moved_bytes"])):
        raise ValueError(f"task {task}: FLOPs, bytes or precision of a call are out of range")
    return Cost(**{name: value for name, value in figures.items() if value is not None})
