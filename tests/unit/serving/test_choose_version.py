"""Which deployment a request gets: by the version that it names, by its user, or by the draw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.directory.choose_version import Arm, arms_of, choose_version, point_of, salt_of
from serve_apps.directory.table import WHOLE, ModelEntry, ReplicaAt, ReplicaId, Split, VersionEntry
from serve_apps.tensors import ModelMetadata

USERS = [f"user-{i}".encode() for i in range(4000)]


def version(number: str, *, is_alive: bool = True, sleeps: bool = False) -> VersionEntry:
    metadata = ModelMetadata("m", (number,), "", (), ())
    replicas = (ReplicaAt(ReplicaId(number), "h", 1),) if is_alive and not sleeps else ()
    return VersionEntry(number.partition(".")[0], metadata, replicas, 0 if sleeps else 1)


def model(shares: dict[str, int] | None, *, default: str = "1", salt: str = "s", dead: str = "", name: str = "m") -> ModelEntry:
    versions = {each: version(each, is_alive=each != dead) for each in ("1", "2", "2.1")}
    split = None if shares is None else Split(shares, salt)
    return ModelEntry(name, default, versions, split, names={"2": "2.1", "champion": "1", "lost": "9"})


def chosen(entry: ModelEntry, user: bytes) -> str | None:
    return choose_version(entry, "", {b"x-user-key": user}, lambda n: 0)


@pytest.mark.parametrize(
    ("named", "headers", "answers"),
    [
        ("", {}, "1"),
        ("1", {}, "1"),
        ("2", {}, "2.1"),
        ("2.1", {}, "2.1"),
        ("champion", {}, "1"),
        ("9", {}, None),
        ("lost", {}, None),
        ("", {b"x-model-version": b"champion"}, "1"),
        ("", {b"x-model-version": b" 2 "}, "2.1"),
        ("", {b"x-model-version": b"9"}, None),
        ("", {b"x-model-version": b""}, "1"),
        ("1", {b"x-model-version": b"2"}, "1"),
    ],
)
def test_a_request_that_names_a_version_gets_that_one_or_none(named: str, headers: dict[bytes, bytes], answers: str | None) -> None:
    assert choose_version(model(None), named, headers, lambda n: 0) == answers
    split = choose_version(model({"1": WHOLE}), named, headers, lambda n: 0)
    assert split == answers


def test_the_draw_goes_by_the_shares() -> None:
    entry = model({"1": 9500, "2": 500})
    assert [choose_version(entry, "", {}, lambda n, at=at: at) for at in (0, 9499, 9500, 9999)] == ["1", "1", "2", "2"]


@given(st.integers(0, WHOLE), st.integers(0, WHOLE))
def test_an_arm_that_grows_keeps_its_users(less: int, more: int) -> None:
    less, more = sorted((less, more))
    before, after = (model({"1": WHOLE - share, "2": share}) for share in (less, more))
    for user in USERS[:300]:
        assert chosen(before, user) == "1" or chosen(after, user) == "2"


def test_users_are_shared_out_evenly_and_each_salt_and_model_anew() -> None:
    entry, salted, other = model({"1": 5000, "2": 5000}), model({"1": 5000, "2": 5000}, salt="t"), model({"1": 5000, "2": 5000}, name="n")
    first = [chosen(entry, user) for user in USERS]
    for again in ([chosen(salted, user) for user in USERS], [chosen(other, user) for user in USERS]):
        both = sum(one == two == "2" for one, two in zip(first, again, strict=True))
        # 1,000 of 4,000, and 27 is one standard deviation.
        assert abs(both - 1000) < 110
    assert abs(first.count("2") - 2000) < 130


def test_points_are_haproxys_own() -> None:
    assert [point_of("abcd1234", user) for user in (b"u1", b"u2", b"u1,u3")] == [8915, 8404, 397]


@pytest.mark.parametrize(
    ("entry", "arms"),
    [
        (model(None), ()),
        (model({"1": 9000, "2": 1000}), (Arm("1", 9000), Arm("2", WHOLE))),
        (model({"1": 9000, "2": 1000}, dead="2"), (Arm("1", WHOLE),)),
        (model({"2": 1000, "1": 9000}, dead="2"), (Arm("1", WHOLE),)),
        (model({"1": 9000, "2": 1000}, dead="1"), (Arm("2", WHOLE),)),
        (model({"1": 9000, "9": 1000}), (Arm("1", WHOLE),)),
        (model({"1": WHOLE, "2": 0}), (Arm("1", WHOLE),)),
    ],
)
def test_the_share_of_an_arm_that_is_gone_is_the_defaults(entry: ModelEntry, arms: tuple[Arm, ...]) -> None:
    assert arms_of(entry) == arms


def test_an_arm_that_sleeps_keeps_its_share() -> None:
    entry = ModelEntry("m", "1", {"1": version("1"), "2": version("2", sleeps=True)}, Split({"1": 5000, "2": 5000}))
    assert [arm.deployment for arm in arms_of(entry)] == ["1", "2"]


def test_a_salt_is_eight_digits_that_fit_a_map() -> None:
    assert len(salt_of(model({"1": WHOLE}, salt="any: text\nat all"))) == 8
