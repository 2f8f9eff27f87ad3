"""Which replica answers."""

from __future__ import annotations

import pytest

from fabric.errors import UnknownNameError
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, VersionEntry
from serve_apps.gateway.routes import EJECTED_S, Address, Routes
from serve_apps.tensors import ModelMetadata

A, B, C = (Address("10.0.0.1", port) for port in (1, 2, 3))


def version(number: str, *addresses: Address, known: bool = True, least: int = 1, name: str = "m") -> VersionEntry:
    replicas = tuple(ReplicaAt(ReplicaId(str(address)), *address) for address in addresses)
    metadata = ModelMetadata(name, (number,), "onnx_onnxv1", (), ()) if known else None
    return VersionEntry(number, metadata, replicas, least, "why" if not addresses else "")


def routes(*versions: VersionEntry, default: str = "", draws: list[int] | None = None) -> Routes:
    drawn = iter(draws or [])
    table = ServingTable(1, {"m": ModelEntry("m", default, {entry.version: entry for entry in versions})})
    return Routes(table, lambda n: next(drawn) % n)


@pytest.mark.parametrize(
    ("asked", "default", "found"),
    [("", "1", "1"), ("2", "1", "2"), ("", "10", "10"), ("", "", "10")],
    ids=["default", "named", "the default need not be the newest", "without a default the newest"],
)
def test_a_version_is_found(asked: str, default: str, found: str) -> None:
    known = routes(version("10", A), version("2", A), version("1", A), default=default)
    assert known.find("m", asked).version == found


@pytest.mark.parametrize(("model", "asked", "code"), [("n", "", "unknown_model"), ("m", "3", "unknown_version")])
def test_an_unknown_name_is_told_with_what_there_is(model: str, asked: str, code: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        routes(version("1", A)).find(model, asked)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        (version("1", A), "READY"),
        (version("1", A, known=False), "READY"),
        (version("1", least=0), "PARKED"),
        (version("1", least=0, known=False), "UNAVAILABLE"),
        (version("1"), "UNAVAILABLE"),
    ],
)
def test_the_state_of_a_version(entry: VersionEntry, state: str) -> None:
    target = routes(entry).find("m")
    assert target.state == state
    assert target.can_answer == (state != "UNAVAILABLE")


def test_metadata_name_all_versions_oldest_first() -> None:
    assert routes(version("10", A), version("9", A)).find("m").metadata.versions == ("9", "10")


def test_of_two_drawn_the_one_with_fewer_outstanding_answers() -> None:
    # Draws 0 and 0 are the first and the second replica; 0 and 1 the first and the third.
    known = routes(version("1", A, B, C), draws=[0, 0, 0, 0, 0, 1])
    target = known.find("m")
    assert known.choose(target, 0.0) == A
    known.began(A)
    assert known.choose(target, 0.0) == B
    known.began(C)
    known.began(C)
    assert known.choose(target, 0.0) == A


def test_a_replica_that_refused_is_left_out_for_a_while() -> None:
    known = routes(version("1", A, B), draws=[0, 0])
    target = known.find("m")
    known.refused(A, 10.0)
    assert known.choose(target, 10.1) == B
    assert known.choose(target, 10.0 + EJECTED_S) == A


def test_a_replica_that_takes_a_connection_is_back_at_once() -> None:
    known = routes(version("1", A, B), draws=[0, 0])
    known.refused(A, 10.0)
    known.connected(A)
    assert known.choose(known.find("m"), 10.1) == A


def test_if_all_refused_some_time_ago_one_is_still_tried() -> None:
    known = routes(version("1", A))
    known.refused(A, 10.0)
    assert known.choose(known.find("m"), 10.1) == A


def test_none_is_left_if_all_refused_this_request() -> None:
    known = routes(version("1", A))
    assert known.choose(known.find("m"), 0.0, [A]) is None
    assert routes(version("1", least=0)).choose(known.find("m"), 0.0, [A]) is None


def test_counts_outlive_a_new_table_and_never_fall_below_zero() -> None:
    known = routes(version("1", A))
    known.began(A)
    known.replace(ServingTable(2, {}))
    assert known.outstanding(A) == 1
    known.ended(A)
    known.ended(A)
    assert known.outstanding(A) == 0


def test_models_and_addresses_are_listed() -> None:
    known = routes(version("1", A), version("2", B, A))
    assert known.names() == ["m"]
    assert known.addresses() == {A, B}
    assert [target.version for target in known.targets("m")] == ["1", "2"]
