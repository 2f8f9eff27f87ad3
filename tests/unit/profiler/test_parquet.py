"""Profiles as Parquet: they come back the same, and a file that is none is refused whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.errors import UserError
from fabric.types import Fingerprint, Resources, Variant
from profiler.estimate import Measured, TaskProfile
from profiler.needs import Needs, Use
from profiler.parquet import SCHEMA, read_parquet, write_parquet
from profiler.roofline import Cost

ON_GPU = Variant("gpu", "gpu", Resources(2.0, 0.5, 2**30), "aa", ("memory", "num_cpus"))
ON_NPU = Variant("npu", "npu", Resources(custom=(("qaic", 1.0),)), "bb")
SEEN = Measured(12.5, -1.25, 0.04, 40, 3 * 2**30)
PROFILES = [
    TaskProfile(
        "detect@aa",
        Fingerprint("cv", "inference", ("argument image",)),
        {"gpu": ON_GPU, "npu": ON_NPU},
        {(9, "gpu", "t4"): SEEN, (-1, "gpu", "a100-80g"): Measured(1.0, -3.0, 0.09, 1, 0)},
        {"gpu": Needs([(1000, 2**30), (-1, 2**29)], {4096: (2**31, 2**32)}, [Use(1.5), Use(0.5, 0.25, 2**30)])},
        1.7e9,
        {9: Cost(8e9, 1e8, "fp16", weights_bytes=2**20, num_kernels=50), -1: Cost(2.0, 8.0)},
    ),
    TaskProfile("embed@cc", Fingerprint("nlp", "training"), {"f": Variant("f", "", Resources(), "cc")}),
]


def test_profiles_come_back_the_same(tmp_path: Path) -> None:
    file = tmp_path / "profiles.parquet"
    assert write_parquet(file, PROFILES) == 4
    assert read_parquet(file) == PROFILES


def test_a_file_of_a_release_that_counted_nothing_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "p.parquet", PROFILES)
    pq.write_table(pq.read_table(tmp_path / "p.parquet").drop_columns(["costs"]), tmp_path / "older.parquet")
    assert read_parquet(tmp_path / "older.parquet") == [dataclasses.replace(profile, costs={}) for profile in PROFILES]


def test_anybody_can_read_the_figures(tmp_path: Path) -> None:
    write_parquet(tmp_path / "p.parquet", PROFILES)
    rows = pq.read_table(tmp_path / "p.parquet", columns=["task", "flavor", "mean_log_s", "num_runs"]).to_pylist()
    assert {"task": "detect@aa", "flavor": "t4", "mean_log_s": -1.25, "num_runs": 40} in rows


def test_a_file_that_holds_no_profiles_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    with pytest.raises(UserError, match="there is no file") as refused:
        read_parquet(file)
    assert refused.value.code == "profile_file"
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="is no Parquet file"):
        read_parquet(file)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(UserError, match="holds no profiles"):
        read_parquet(file)
    with pytest.raises(UserError, match="cannot be written"):
        write_parquet(tmp_path / "no" / "such" / "place.parquet", PROFILES)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(
            ("weight", 0.0),
            ("var_log_s", -1.0),
            ("mean_log_s", float("nan")),
            ("num_runs", None),
            ("domain", "poetry"),
            ("mean_log_s", 1e9),
        ),
        *(("costs", [{"bucket": 1, "flops": flops, "moved_bytes": 1.0, "dtype": dtype}]) for flops, dtype in ((-1.0, "fp16"), (1.0, "x"))),
    ],
)
def test_a_figure_that_cannot_be_is_refused_and_named(tmp_path: Path, column: str, value: object) -> None:
    write_parquet(tmp_path / "p.parquet", PROFILES)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    rows[0][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "p.parquet")
    with pytest.raises(UserError, match="detect@aa"):
        read_parquet(tmp_path / "p.parquet")
