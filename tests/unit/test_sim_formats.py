"""Traces are read as they are written, and what is wrong with one is told by its line."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from fabric.errors import ConfigError, FabricError, UnknownNameError, UserError
from fabric.sim.cluster import make_cluster, parse_capacity, parse_prices
from fabric.sim.csv_trace import read_csv
from fabric.sim.events import LeaseLine, read_leases, write_leases
from fabric.sim.failures import FailureModel, parse_failures
from fabric.sim.gavel import is_gavel, read_gavel
from fabric.throughputs import read_throughputs

DEVICES = ["v100", "k80"]
RESNET = "ResNet-18 (batch size 32)"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = {
        "v100": {f"('{RESNET}', 1)": {"null": 40.0}, f"('{RESNET}', 2)": {"null": 70.0}, "('A3C', 1)": {"null": 2.0}},
        "k80": {f"('{RESNET}', 1)": {"null": 8.0, "('A3C', 1)": [4.0, 1.0]}, f"('{RESNET}', 2)": {"null": 0.0}},
    }
    path = tmp_path / "throughputs.json"
    path.write_text(json.dumps(rows))
    return path


def line(job_type: str = RESNET, steps: str = "4000", gpus: str = "1", slo: str = "-1.000000", arrival: str = "0") -> str:
    return "\t".join((job_type, "python3 main.py", "cv", "--steps", "1", steps, gpus, "1", slo, arrival))


def gavel(tmp_path: Path, table: Path, *lines: str) -> list[object]:
    text = "\n".join(lines) + "\n"
    return list(read_gavel(tmp_path / "a.trace", text, read_throughputs(table, DEVICES), DEVICES))


def test_a_gavel_line_becomes_a_gang_of_single_accelerators_with_the_rates_of_its_row(tmp_path: Path, table: Path) -> None:
    (job,) = read_gavel(tmp_path / "a.trace", line(gpus="2", arrival="12.5"), read_throughputs(table, DEVICES), DEVICES)
    assert (job.gpus, job.shape.accelerators, job.shape.num_bundles) == (2, 1, 2)
    assert (job.work, job.arrival_s, job.deadline_s) == (4000, 12.5, None)
    assert job.rates == {"v100": 70.0}, "a rate of 0 means that it cannot run there"


def test_a_gavel_deadline_is_a_multiple_of_the_time_on_a_v100(tmp_path: Path, table: Path) -> None:
    (job,) = read_gavel(tmp_path / "a.trace", line(slo="1.2", arrival="50"), read_throughputs(table, DEVICES), DEVICES)
    assert job.deadline_s == pytest.approx(50 + 1.2 * 4000 / 40)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("\t".join(["a"] * 9), "9 fields instead of 10"),
        (line(steps="many"), "total steps must be a number"),
        (line(steps="0"), "total steps must be more than 0"),
        (line(gpus="1.5"), "accelerators must be a whole number"),
        (line(gpus="0"), "accelerators must be at least 1"),
        (line(arrival="-3"), "arrival must be at least 0"),
        (line(arrival="nan"), "arrival must be at least 0"),
    ],
)
def test_a_bad_gavel_line_is_told_by_its_number(tmp_path: Path, table: Path, bad: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.trace line 2") as caught:
        gavel(tmp_path, table, line(), bad)
    assert caught.value.code == "bad_trace"
    assert says in caught.value.message


def test_a_job_without_a_throughput_row_is_refused_with_the_sizes_that_have_one(tmp_path: Path, table: Path) -> None:
    with pytest.raises(ConfigError, match="line 1") as caught:
        gavel(tmp_path, table, line(gpus="8"))
    assert caught.value.code == "no_throughput"
    assert "1, 2" in str(caught.value.hint)
    with pytest.raises(ConfigError) as caught:
        gavel(tmp_path, table, line(job_type="ResNet-18 (batch size 23)"))
    assert RESNET in str(caught.value.hint)


def test_a_device_that_the_table_lacks_is_refused_with_the_nearest(table: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        read_throughputs(table, ["v10"])
    assert caught.value.code == "unknown_device"
    assert "v100" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["{", "[]", '{"v100": {"row": {"null": 1}}}', '{"v100": {"(\'A\', 1)": {"null": "fast"}}}'])
def test_a_broken_throughput_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_throughputs(path, ["v100"])
    assert caught.value.code == "bad_throughputs"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere") as caught:
        read_throughputs(tmp_path / "nowhere.json", DEVICES)
    assert caught.value.code == "no_such_file"


def csv(tmp_path: Path, text: str) -> list[object]:
    return list(read_csv(tmp_path / "a.csv", text, DEVICES))


def test_a_csv_row_may_give_seconds_or_rates_with_work(tmp_path: Path) -> None:
    text = "name,arrival_s,gpus,work,v100_rate,k80_s,class,queue\na,0,2,100,10,50,batch,q\nb,5,1,,,20,,\n"
    first, second = read_csv(tmp_path / "a.csv", text, DEVICES)
    assert (first.rates, first.work, first.priority, first.queue) == ({"v100": 10.0, "k80": 2.0}, 100.0, "batch", "q")
    assert (second.rates, second.work, second.arrival_s, second.queue) == ({"k80": 1 / 20}, 1.0, 5.0, "default")


def test_a_csv_shape_may_hold_its_accelerators_on_one_node_or_be_elastic(tmp_path: Path) -> None:
    text = "name,arrival_s,shape,v100_s,k80_s\na,0,4x2,10,10\nb,0,2-8,10,10\n"
    held, elastic = read_csv(tmp_path / "a.csv", text, DEVICES)
    assert (held.shape.accelerators, held.shape.num_bundles, held.shape.spread) == (4, 2, True)
    assert elastic.shape.sizes() == (2, 4, 8)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("name,gpus,v100_s,k80_s\n", "bad_trace", "arrival_s is missing"),
        ("name,arrival_s,v100_s,k80_s\n", "bad_trace", "gpus"),
        ("name,arrival_s,gpus,v100_rate,k80_rate\n", "bad_trace", "work"),
        ("name,arrival_s,gpus,v100_s\n", "unknown_device", "k80"),
        ("name,arrival_s,gpus,v100_s,k80_s,colour\n", "unknown_column", "colour"),
        ("name,arrival_s,gpus,v100_s,k80_s\na,0,1,5\n", "bad_trace", "line 2"),
        ("name,arrival_s,gpus,v100_s,k80_s\na,0,1,5,5\nb,soon,1,5,5\n", "bad_trace", "line 3"),
        ("name,arrival_s,gpus,v100_s,k80_s\na,0,1,,\n", "bad_trace", "no flavor"),
        ("name,arrival_s,shape,v100_s,k80_s\na,0,4xx,1,1\n", "bad_trace", "line 2"),
        ("name,arrival_s,gpus,v100_s,k80_s\na,0,1,-5,5\n", "bad_trace", "v100_s"),
    ],
)
def test_a_bad_csv_is_told_by_its_line(tmp_path: Path, text: str, code: str, says: str) -> None:
    with pytest.raises(FabricError) as caught:
        csv(tmp_path, text)
    assert caught.value.code == code
    assert says in caught.value.message


def test_gavel_traces_are_known_by_their_tabs() -> None:
    assert is_gavel(line())
    assert not is_gavel("name,arrival_s,gpus,v100_s\n")


@pytest.mark.parametrize("text", ["v100", "v100=0", "v100=x", "v100=1,v100=2", "=3", ""])
def test_a_bad_cluster_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_capacity(text)
    assert caught.value.code == "bad_cluster"


@pytest.mark.parametrize("text", ["repair_s=5", "mtbf_h=0", "mtbf_h=1,colour=2", "mtbf_h", "mtbf_h=inf"])
def test_bad_failures_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_failures(text)
    assert caught.value.code == "bad_failures"


def test_prices_come_from_the_catalogue_unless_given_and_are_unknown_for_a_made_up_flavor() -> None:
    cluster = make_cluster({"v100": 2, "abacus": 1}, usd_per_h={"v100": 0.74})
    assert cluster.usd_per_h == {"v100": 0.74, "abacus": None}
    assert cluster.prices is None
    assert make_cluster({"k80": 1}).prices == {"k80": make_cluster({"k80": 1}).catalogue["k80"].usd_per_h}
    assert parse_prices("v100=0.74,p100=0") == {"v100": 0.74, "p100": 0.0}


def test_nodes_hold_the_accelerators_asked_for_and_the_last_what_is_left() -> None:
    nodes = make_cluster({"v100": 5}, gpus_per_node=2).nodes()
    assert [node.total["GPU"] for node in nodes] == [2.0, 2.0, 1.0]


def test_a_gang_larger_than_the_cluster_is_refused_and_one_that_nodes_are_too_small_for(tmp_path: Path) -> None:
    rows = "name,arrival_s,shape,v100_s,k80_s\na,0,4,10,\nb,0,2x2,10,\n"
    whole, spread = read_csv(tmp_path / "a.csv", rows, DEVICES)
    make_cluster({"v100": 4, "k80": 1}, gpus_per_node=4).check_fits(whole)
    for cluster, job in ((make_cluster({"v100": 4, "k80": 99}), whole), (make_cluster({"v100": 3, "k80": 9}, gpus_per_node=2), spread)):
        with pytest.raises(UserError) as caught:
            cluster.check_fits(job)
        assert caught.value.code == "gang_too_large"


def test_leases_survive_being_written_and_read(tmp_path: Path) -> None:
    leases = [LeaseLine(0, "v100", 2, 0.1, 10.25, 3.3), LeaseLine(7, "k80", 1, 5.0, 6.0, 0.0)]
    write_leases(tmp_path / "leases.jsonl", leases)
    assert read_leases(tmp_path / "leases.jsonl") == leases
    (tmp_path / "bad.jsonl").write_text('{"job": 1}\n')
    with pytest.raises(ConfigError, match="line 1"):
        read_leases(tmp_path / "bad.jsonl")


def test_failures_are_seeded_in_order_and_never_overlap_on_a_node() -> None:
    def some(seed: int, nodes: tuple[str, ...] = ("a", "b")) -> list[tuple[float, float, str]]:
        draws = FailureModel(mtbf_h=1.0, repair_s=3600.0).draw(nodes, seed)
        return [(failure.at_s, failure.until_s, failure.node_id) for failure, _ in zip(draws, range(200), strict=False)]

    drawn = some(0)
    assert drawn == some(0) != some(1)
    assert [at_s for at_s, _, _ in drawn] == sorted(at_s for at_s, _, _ in drawn)
    for node in "ab":
        mine = [each for each in drawn if each[2] == node]
        assert all(first[1] <= second[0] for first, second in pairwise(mine))
