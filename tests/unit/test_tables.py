"""Published tables become rows; a bad file is refused with a code and the line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fabric.errors import ConfigError
from profiler.tables import Result, gavel_rows, mlperf_rows, read_mlperf

HEADER = "division,accelerator,accelerators_per_node,nodes,model,scenario,samples_per_s"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "results.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_gavel_table_gives_seconds_per_step_with_family_and_batch_size() -> None:
    throughputs = {("k80", "LM (batch size 20)", 1): 4.0, ("k80", "A3C", 2): 0.5, ("v100", "A3C", 1): 0.0}
    sized, gang = gavel_rows(throughputs)
    assert (sized.task, sized.family, sized.flavor) == ("LM (batch size 20)", "LM", "k80")
    assert (sized.log_s, sized.log_size) == (pytest.approx(-math.log(4.0)), pytest.approx(math.log(20)))
    assert (gang.task, gang.family, gang.log_size) == ("A3C x2", "A3C x2", None)


def test_mlperf_figures_are_brought_to_one_accelerator_or_one_slice(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "closed,NVIDIA A10,4,1,resnet50,Offline,40000",
        "closed,NVIDIA A100 (7x1g.10gb MIG),8,1,bert-99,offline,5600",
        "closed,NVIDIA A10,4,2,resnet,Offline,80000",
        "open,NVIDIA A10,1,1,resnet50,Offline,99999",
        "closed,NVIDIA A10,1,1,resnet50,Server,99999",
        "closed,-,0,1,resnet50,Offline,7",
        "closed,NVIDIA A10,1,1,resnet50,Offline,",
    )
    assert read_mlperf(path) == [
        Result("NVIDIA A10", "resnet50", 10000.0),
        Result("NVIDIA A100 1g.10gb", "bert-99", 100.0),
        Result("NVIDIA A10", "resnet50", 10000.0),
    ]


def test_submissions_of_one_model_on_one_flavor_become_their_median() -> None:
    results = [Result("A10", "bert-99.9", rate) for rate in (100.0, 110.0, 5.0)] + [Result("odd", "bert-99", 1.0)]
    (row,) = mlperf_rows(results, {"A10": "a10"}.get)
    assert (row.task, row.family, row.flavor, row.num_runs) == ("bert-99.9", "bert", "a10", 3)
    assert math.exp(-row.log_s) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("closed,NVIDIA A10,1,1,resnet50,Offline,fast", "samples_per_s is not a number"),
        ("closed,NVIDIA A10,1,1,resnet50,Offline,nan", "samples_per_s is not a number"),
        ("closed,NVIDIA A10,-1,1,resnet50,Offline,5", "accelerators_per_node is not a number"),
        ("closed,NVIDIA A10,1", "fewer fields"),
    ],
)
def test_a_bad_line_is_told_by_its_number(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match="line 3") as caught:
        read_mlperf(write(tmp_path, "closed,NVIDIA A10,1,1,resnet50,Offline,5", line))
    assert caught.value.code == "bad_table"
    assert caught.value.hint
    assert says in caught.value.message


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column division") as caught:
        read_mlperf(write(tmp_path, "a,b", header="x,y"))
    assert caught.value.code == "bad_table"
    assert "samples_per_s" in str(caught.value.hint)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_mlperf(tmp_path / "nowhere.csv")
    assert caught.value.code == "no_such_file"
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as caught:
        read_mlperf(tmp_path / "binary.csv")
    assert caught.value.code == "unreadable_file"
