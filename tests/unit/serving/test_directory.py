"""Who answers for a model: versions that begin, run, follow one another, fail and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fabric.errors import UnknownNameError, UserError
from serve_apps.directory.core import SILENT_S, Directory
from serve_apps.directory.observed import Observed, Sum
from serve_apps.directory.records import DeployRecord, ReplicaReport, metadata_from_json
from serve_apps.directory.requests import ShadowOrder
from serve_apps.directory.table import ReplicaId, Shadow, Split
from serve_apps.tensors import ModelMetadata, TensorSpec

METADATA = ModelMetadata(
    "m", ("1",), "onnx_onnxv1", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),), max_batch_size=8
)


def report(version: str = "1", replica: str = "a", port: int = 1000, name: str = "m") -> ReplicaReport:
    return ReplicaReport(ReplicaId(replica), name, version, "127.0.0.1", port, METADATA)


@pytest.fixture
def directory() -> Directory:
    return Directory()


def begin(directory: Directory, name: str = "m", **given: object) -> DeployRecord:
    return directory.begin(name, "ann", {"replicas": 1, **given}, "digest", 0.0)


def answering(directory: Directory, name: str = "m") -> list[int]:
    entry = directory.table().find(name)
    return [replica.port for replica in entry.replicas] if entry else []


def test_a_version_is_routed_to_from_its_activation_on(directory: Directory) -> None:
    record = begin(directory)
    with pytest.raises(UserError, match="no replica"):
        directory.activate("m", "1")
    assert directory.beat(report(), 0.0) and answering(directory) == []
    assert directory.activate("m", record.version) == []
    assert answering(directory) == [1000]
    assert directory.table().find("m", "1").metadata == METADATA  # type: ignore[union-attr]


def test_the_version_before_answers_until_the_next_one_does_and_is_then_to_be_retired(directory: Directory) -> None:
    begin(directory)
    directory.beat(report(), 0.0)
    directory.activate("m", "1")
    assert begin(directory).version == "2"
    directory.beat(report("2", "b", 2000), 0.0)
    assert answering(directory) == [1000]
    assert [one.version for one in directory.activate("m", "2")] == ["1"]
    assert answering(directory) == [2000]
    assert [replica.port for replica in directory.table().find("m", "1").replicas] == [1000], "by its number it still answers"  # type: ignore[union-attr]
    directory.retired("m", "1")
    assert directory.table().find("m", "1") is None and not directory.beat(report(), 1.0)


def test_a_version_that_fails_leaves_the_one_before_in_place(directory: Directory) -> None:
    begin(directory)
    directory.beat(report(), 0.0)
    directory.activate("m", "1")
    begin(directory)
    directory.fail("m", "2", "no such file")
    assert answering(directory) == [1000] and directory.record("m").version == "1"
    assert not directory.beat(report("2", "b"), 0.0)
    assert directory.record("m", "2").why == "no such file"
    assert begin(directory).version == "3", "a number is given once"


def test_a_silent_replica_is_not_routed_to_and_one_that_said_good_bye_stays_away(directory: Directory) -> None:
    begin(directory)
    directory.beat(report(), 0.0)
    directory.beat(report(replica="b", port=2), 5.0)
    directory.activate("m", "1")
    assert directory.expire(SILENT_S) == [] and directory.expire(SILENT_S + 0.1) == ["a"]
    assert answering(directory) == [2]
    directory.beat(report(), 9.0)
    assert sorted(answering(directory)) == [2, 1000], "it was only slow"
    directory.leave(ReplicaId("a"))
    assert not directory.beat(report(), 9.5)
    assert answering(directory) == [2]


def test_the_table_changes_its_number_only_with_its_content(directory: Directory) -> None:
    begin(directory)
    directory.beat(report(), 0.0)
    directory.activate("m", "1")
    before = directory.table()
    directory.beat(replace(report(), stats={"ongoing_requests": 3.0}), 1.0)
    assert directory.table() is before
    directory.beat(report(port=1001), 2.0)
    assert directory.table().seq == before.seq + 1 and answering(directory) == [1001]


def test_a_model_that_may_sleep_is_ready_without_a_replica(directory: Directory) -> None:
    begin(directory, min_replicas=0)
    directory.beat(report(), 0.0)
    directory.activate("m", "1")
    directory.leave(ReplicaId("a"))
    entry = directory.table().find("m")
    assert entry is not None and entry.replicas == () and entry.is_ready


def test_what_is_kept_brings_the_same_table_back_once_replicas_report(directory: Directory) -> None:
    begin(directory)
    directory.beat(report(), 0.0)
    directory.activate("m", "1")
    directory.fail("m", begin(directory).version, "why")
    again = Directory()
    again.restore([("m", directory.kept("m"))])
    again.beat(report(), 0.0)
    assert again.table().models == directory.table().models
    assert begin(again).version == "3"
    assert metadata_from_json(None) is None


def test_a_model_that_is_deployed_again_after_its_end_goes_on_with_the_numbers(directory: Directory) -> None:
    begin(directory)
    directory.beat(report(), 0.0)
    directory.activate("m", "1")
    assert [record.version for record in directory.delete("m")] == ["1"]
    assert directory.table().models == {} and not directory.beat(report(), 1.0)
    with pytest.raises(UnknownNameError):
        directory.record("m")
    again = Directory()
    again.restore([("m", directory.kept("m"))])
    assert begin(again).version == "2" and begin(directory).version == "2"


def test_of_versions_that_did_not_start_the_last_few_are_kept(directory: Directory) -> None:
    for number in range(12):
        assert directory.fail("m", begin(directory).version, "why").version == str(number + 1)
    assert [record.version for record in directory.records("m")] == ["8", "9", "10", "11", "12"]


def test_unknown_names_are_refused_with_the_nearest(directory: Directory) -> None:
    begin(directory, "resnet")
    for call in (directory.records, directory.delete, directory.record):
        with pytest.raises(UnknownNameError, match="resnett") as caught:
            call("resnett")
        assert caught.value.code == "unknown_model" and "resnet" in (caught.value.hint or "")
    with pytest.raises(UnknownNameError) as caught:
        directory.record("resnet", "7")
    assert caught.value.code == "unknown_version"


def ready(directory: Directory, version: str = "", port: int = 1000) -> str:
    """A further deployment with one replica, standing by."""
    record = directory.begin("m", "ann", {"replicas": 1}, "digest", 0.0, version=version)
    number = f"r{record.key}"
    directory.beat(replace(report(record.version, number, port), deployment=record.key), 0.0)
    return directory.stand_by("m", record.key).key


def test_a_version_may_run_at_two_places_and_its_number_means_the_one_that_answers(directory: Directory) -> None:
    assert ready(directory, port=1) == "1"
    directory.activate("m", "1")
    assert ready(directory, "1", port=2) == "1.1"
    entry = directory.table().models["m"]
    assert (entry.default, dict(entry.names)) == ("1", {"1": "1", "1.1": "1.1"})
    assert [one.key for one in directory.activate("m", "1.1")] == ["1"]
    entry = directory.table().models["m"]
    assert (entry.default, dict(entry.names)) == ("1.1", {"1": "1.1", "1.1": "1.1"}) and directory.record("m", "1").key == "1.1"
    assert answering(directory) == [2] and begin(directory).version == "2"


def test_a_version_that_stands_by_answers_who_names_it_until_a_split_gives_it_a_share(directory: Directory) -> None:
    ready(directory)
    directory.activate("m", "1")
    ready(directory, port=2000)
    directory.set_aliases("m", {"challenger": "2", "gone": "9"})
    assert answering(directory) == [1000] and directory.shares("m") == {"1": 10_000}
    assert directory.table().find("m", "challenger").version == "2"  # type: ignore[union-attr]
    assert directory.table().find("m", "gone") is None
    directory.direct("m", Split({"1": 9_500, "2": 500}), Shadow("1", "2", 100))
    assert directory.shares("m") == {"1": 9_500, "2": 500}
    order, is_watched = directory.orders(report())
    assert order == ShadowOrder(100, (("127.0.0.1", 2000),)) and is_watched
    assert directory.orders(report("2"))[0] is None
    assert [one.key for one in directory.activate("m", "2")] == ["1"] and directory.table().models["m"].split is None


def test_traffic_is_led_only_to_what_is_ready_and_in_shares_that_sum(directory: Directory) -> None:
    ready(directory)
    directory.activate("m", "1")
    begin(directory)
    for split, code in (
        ({"1": 5_000, "2": 5_000}, "not_ready"),
        ({"1": 9_999}, "bad_split"),
        ({"1": 10_001, "1.5": -1}, "unknown_version"),
    ):
        with pytest.raises(UserError) as caught:
            directory.direct("m", Split(split))
        assert caught.value.code == code
        assert directory.table().models["m"].split is None
    with pytest.raises(UserError, match="answers"):
        directory.retire("m", "1")


def test_a_deployment_that_fails_or_retires_takes_its_share_back(directory: Directory) -> None:
    ready(directory)
    directory.activate("m", "1")
    for does_fail in (True, False):
        key = ready(directory)
        directory.direct("m", Split({"1": 1, key: 9_999}), Shadow("1", key, 1))
        directory.fail("m", key, "it broke") if does_fail else directory.retire("m", key)
        entry = directory.table().models["m"]
        assert (entry.split, entry.shadow, entry.default) == (None, None, "1")


def test_what_was_seen_never_falls_when_replicas_die_come_back_or_say_good_bye(directory: Directory) -> None:
    ready(directory)

    def beat(replica: str, num_errors: int, now_s: float) -> None:
        directory.beat(replace(report(replica=replica), observed=Observed({3: 10}, num_errors)), now_s)

    def seen() -> tuple[int, int]:
        total = directory.sightings.observed("m", "1")
        return total.num_requests, total.num_errors

    beat("a", 1, 0.0)
    beat("b", 2, 0.0)
    assert seen() == (23, 3)
    assert set(directory.expire(SILENT_S + 1)) >= {"a", "b"} and seen() == (23, 3)
    assert directory.sightings.num_lost("m", "1") == 3, "with the one that it was ready by"
    beat("a", 5, SILENT_S + 2)
    assert seen() == (27, 7)
    directory.leave(ReplicaId("a"))
    assert seen() == (27, 7)
    directory.sightings.add_metric("m", "1", "conversion", Sum(2, 1.0, 1.0))
    directory.sightings.add_metric("m", "1", "conversion", Sum(1, 1.0, 1.0))
    assert directory.sightings.observed("m", "1").metrics == {"conversion": Sum(3, 2.0, 2.0)}
    directory.retired("m", "1")
    assert directory.sightings.observed("m", "1") == Observed()


class Life(RuleBasedStateMachine):
    """Deploys, beats, failures and ends in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.directory, self.now_s, self.last_seq, self.was_ready = Directory(), 0.0, 0, False
        self.given: list[str] = []

    @rule()
    def deploy(self) -> None:
        record = begin(self.directory)
        assert record.version not in self.given
        self.given.append(record.version)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), after_s=st.floats(0, 5))
    def replica_reports(self, data: st.DataObject, after_s: float) -> None:
        self.now_s += after_s
        version = data.draw(st.sampled_from(self.given))
        self.directory.beat(report(version, f"r{version}", 1000 + int(version)), self.now_s)
        self.directory.expire(self.now_s)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), what=st.sampled_from(["activate", "fail", "leave"]))
    def something_happens(self, data: st.DataObject, what: str) -> None:
        version = data.draw(st.sampled_from(self.given))
        try:
            state = self.directory.record("m", version).state
        except UnknownNameError:
            return
        if what == "leave":
            self.directory.leave(ReplicaId(f"r{version}"))
        elif what == "fail" and state == "starting":
            self.directory.fail("m", version, "it broke")
        elif what == "activate" and state == "starting" and self.directory.record("m", version).metadata:
            for one in self.directory.activate("m", version):
                assert int(one.version) < int(version)
                self.directory.retired("m", one.version)
            self.was_ready = True

    @invariant()
    def the_default_version_has_been_ready(self) -> None:
        table = self.directory.table()
        assert table.seq >= self.last_seq
        self.last_seq = table.seq
        if self.was_ready:
            entry = table.find("m")
            assert entry is not None and entry.metadata is not None and self.directory.record("m").state == "ready"


Life.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_whatever_happens_the_default_version_is_one_that_was_ready = Life.TestCase
