"""The gateway's share of a split: who is chosen, who stands in, and what users post back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fabric.errors import RejectedError, UnknownNameError, UserError
from serve_apps.directory.choose_version import choose_version
from serve_apps.directory.table import WHOLE, ModelEntry, ReplicaAt, ReplicaId, ServingTable, Split, VersionEntry
from serve_apps.gateway.feedback import MAX_ROWS, Feedback, FeedbackRow, read_feedback
from serve_apps.gateway.gateway import Gateway, GatewayOptions
from serve_apps.gateway.routes import Address
from serve_apps.gateway.waking import no_replica
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from tests.unit.gateway.in_memory import Pool, ask
from tests.unit.gateway.text_models import Trigrams
from tests.unit.oip.models import Small

AT = {version: Address("10.0.0.1", 9000 + int(version)) for version in ("1", "2")}
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).encode()
INFER = "/v2/models/m/infer"


class World:
    """Versions 1, the default, and 2 of `m` behind a gateway. `sleeping`: they have no replica, and may be woken."""

    def __init__(self, shares: dict[str, int] | None, *, sleeping: str = "", makes: Any = None, **says: Any) -> None:
        self.pool = Pool()
        self.woken: list[tuple[str, str]] = []
        self.gateway = Gateway(GatewayOptions(held_s=1.0), pool=self.pool, waker=self)  # type: ignore[arg-type]
        make = makes or (lambda version: Small("m", "x FP32 1", "y FP32 1", lambda a: {"y": a["x"]}, version=version, **says))
        entries = {}
        for version, address in AT.items():
            plane = DataPlane(takes_aliases=True)
            plane.add(make(version))
            self.pool.apps[address] = RestApp(plane)
            replicas = () if version == sleeping else (ReplicaAt(ReplicaId(version), *address),)
            entries[version] = VersionEntry(version, plane.model("m").metadata, replicas, 0 if version == sleeping else 1)
        self.entry = ModelEntry("m", "1", entries, Split(shares, "s") if shares else None, names={"champion": "1", "challenger": "2"})
        self.gateway.replace(ServingTable(1, {"m": self.entry}))

    async def wake(self, model: str, version: str) -> Address:
        self.woken.append((model, version))
        if version == "2" and AT["2"] in self.pool.dead:
            raise no_replica(model, version)
        return AT[version]

    def ask(self, path: str = INFER, body: bytes = BODY, **headers: str) -> Any:
        return asyncio.run(ask(self.gateway.app, "POST", path, body, **headers))

    def version(self, **headers: str) -> str:
        answered = self.ask(**headers)
        return str(answered.json["model_version"]) if answered.status == 200 else str(answered.status)


def test_users_get_the_version_that_the_table_says() -> None:
    world = World({"1": 5000, "2": 5000})
    users = [f"u{i}" for i in range(40)]
    expected = [choose_version(world.entry, "", {b"x-user-key": user.encode()}, lambda n: 0) for user in users]
    assert [world.version(x_user_key=user) for user in users] == expected and set(expected) == {"1", "2"}


@pytest.mark.parametrize(("headers", "answers"), [({"x_model_version": "challenger"}, "2"), ({"x_model_version": "9"}, "404")])
def test_a_header_names_the_version(headers: dict[str, str], answers: str) -> None:
    assert World({"1": WHOLE, "2": 0}).version(**headers) == World(None).version(**headers) == answers


def test_metadata_are_those_of_the_version_that_the_header_names_and_are_not_split() -> None:
    world = World({"1": 0, "2": WHOLE})
    found = asyncio.run(ask(world.gateway.app, "GET", "/v2/models/m", x_model_version="challenger"))
    assert found.status == 200 and found.json["name"] == "m"
    assert world.gateway.routes.find("m").version == "1"
    assert asyncio.run(ask(world.gateway.app, "GET", "/v2/models/m", x_model_version="9")).status == 404


def test_where_the_chosen_version_takes_no_connection_the_default_answers_and_who_named_it_is_told() -> None:
    world = World({"1": 0, "2": WHOLE})
    world.pool.dead.add(AT["2"])
    assert world.version() == "1"
    assert world.version(x_model_version="2") == "503"


class Dying:
    """Its replica ends with each request in hand."""

    async def ask(self, parts: Any) -> Any:
        from fabric.errors import UnavailableError

        raise UnavailableError("gone", code="replica_gone")

    async def open(self, parts: Any, more: Any = None) -> Any:
        if more is not None:
            async for _ in more:
                pass
        await self.ask(parts)


@pytest.mark.parametrize(("has_side_effects", "answers"), [(False, "1"), (True, "503")])
def test_a_request_that_its_replica_takes_along_is_sent_to_the_default_unless_it_has_effects(has_side_effects: bool, answers: str) -> None:
    world = World({"1": 0, "2": WHOLE}, has_side_effects=has_side_effects)
    connect = world.pool.connect

    async def connecting(address: Address) -> Any:
        return Dying() if address == AT["2"] else await connect(address)

    world.pool.connect = connecting  # type: ignore[method-assign]
    assert world.version() == answers


def test_a_version_that_sleeps_is_woken_for_its_share_and_the_default_stands_in_where_it_does_not_wake() -> None:
    world = World({"1": 0, "2": WHOLE}, sleeping="2")
    assert world.version() == "2" and world.woken == [("m", "2")]
    world.pool.dead.add(AT["2"])
    assert world.version() == "1"


def test_an_openai_model_may_name_its_version() -> None:
    world = World({"1": WHOLE, "2": 0}, makes=lambda version: Trigrams("m", version=version))
    for model, seen in (("m", "1"), ("m:2", "2"), ("m:challenger", "2"), ("m:champion", "1")):
        world.pool.seen.clear()
        body = json.dumps({"model": model, "input": "text"}).encode()
        assert world.ask("/v1/embeddings", body).status == 200
        assert set(world.pool.seen) == {AT[seen]}
    assert world.ask("/v1/embeddings", json.dumps({"model": "m:9", "input": "text"}).encode()).status == 404


def test_a_mark_of_shadows_from_outside_is_not_passed_on() -> None:
    world = World(None)
    world.ask(x_shadow="1")
    assert "x-shadow" not in world.pool.seen[AT["1"]][0].headers


# -- what users post back --------------------------------------------------------------------------------------------------


def post(world: World, **document: Any) -> Any:
    return world.ask("/v2/models/m/feedback", json.dumps(document).encode())


def test_feedback_is_summed_by_the_version_that_gave_the_answer() -> None:
    world = World({"1": 5000, "2": 5000})
    user = next(f"u{i}" for i in range(99) if choose_version(world.entry, "", {b"x-user-key": b"u%d" % i}, lambda n: 0) == "2")
    assert post(world, metric="conversion", value=1, user_key=user).json["model_version"] == "2"
    assert post(world, metric="conversion", value=3, version="challenger").status == 202
    assert post(world, metric="conversion", value=0, version="1").status == 202
    rows = world.gateway.feedback.take()
    assert sorted(rows) == [FeedbackRow("m", "1", "conversion", 1, 0.0, 0.0), FeedbackRow("m", "2", "conversion", 2, 4.0, 10.0)]
    assert world.gateway.feedback.take() == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"metric": "a b", "value": 1, "version": "1"},
        {"metric": "", "value": 1, "version": "1"},
        {"metric": "x" * 65, "value": 1, "version": "1"},
        {"metric": "x", "value": True, "version": "1"},
        {"metric": "x", "value": "1", "version": "1"},
        {"metric": "x", "value": float("inf"), "version": "1"},
        {"metric": "x", "value": 1e16, "version": "1"},
        {"metric": "x", "value": 1},
        {"metric": "x", "value": 1, "version": "1", "user_key": "u"},
        {"metric": "x", "value": 1, "version": 1},
        {"metric": "x", "value": 1, "user_key": ""},
        {"metric": "x", "value": 1, "version": "1", "other": 1},
    ],
)
def test_feedback_that_is_wrong_is_told_so(document: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        read_feedback(document)
    assert caught.value.code == "bad_feedback"


def test_feedback_is_for_a_version_that_there_is() -> None:
    world = World(None)
    assert post(world, metric="x", value=1, version="9").status == 404
    assert world.ask("/v2/models/nobody/feedback", json.dumps({"metric": "x", "value": 1, "version": "1"}).encode()).status == 404
    assert asyncio.run(ask(world.gateway.app, "GET", "/v2/models/m/feedback")).status == 405
    assert post(world, metric="x", value=1).json["code"] == "bad_feedback"
    with pytest.raises(UnknownNameError):
        world.gateway.routes.pick("m", "9", {})


def test_feedback_that_cannot_be_delivered_waits_within_bounds() -> None:
    feedback = Feedback()
    for number in range(MAX_ROWS):
        feedback.note("m", "1", f"m{number}", 1.0)
    with pytest.raises(RejectedError):
        feedback.note("m", "1", "another", 1.0)
    feedback.note("m", "1", "m0", 2.0)
    rows = feedback.take()
    feedback.note("m", "1", "m0", 4.0)
    feedback.put_back(rows)
    assert feedback.take()[0] == FeedbackRow("m", "1", "m0", 3, 7.0, 21.0)
