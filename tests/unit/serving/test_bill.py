"""What a model has cost: replica time at the price of its place, requests counted once, whatever dies or restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fabric.errors import UnavailableError
from fabric.usage_form import MODEL_ROW_KEYS, with_shares
from serve_apps.directory import bill as module
from serve_apps.directory.bill import LONGEST_AWAY_S, Bill, keep
from serve_apps.directory.form import usage_rows
from serve_apps.directory.observed import Observed
from serve_apps.directory.records import DeployRecord, ReplicaReport, replica_price
from serve_apps.directory.table import ReplicaId
from tests.directory_world import METADATA, World

WALL_S = 1.8e9
PLACES = (
    {"flavor": "a10", "kind": "cpu", "usd_per_h": 0.1, "replica_usd_per_h": 0.05},
    {"flavor": "a10", "kind": "accelerator", "usd_per_h": 4.0, "replica_usd_per_h": 1.2},
    {"flavor": "t4", "kind": "accelerator", "usd_per_h": 0.8, "replica_usd_per_h": 0.4},
    {"flavor": "odd", "kind": "accelerator", "usd_per_h": None, "replica_usd_per_h": None},
)
RECORD = DeployRecord("m", "1", "ann", 0.0, {"replicas": 2}, placement={"flavor": "a10", "kind": "accelerator", "places": PLACES})


def report(requests: int = 0, errors: int = 0, *, replica: str = "r", flavor: str = "a10", is_bridge: bool = False) -> ReplicaReport:
    observed = Observed({10: requests - errors}, errors)
    return ReplicaReport(ReplicaId(replica), "m", "1", "h", 1, METADATA, flavor=flavor, observed=observed, is_bridge=is_bridge)


def noted(bill: Bill, at_s: float, *reports: ReplicaReport, record: DeployRecord = RECORD) -> None:
    for each in reports:
        bill.note(each, record, at_s, WALL_S + at_s)


def row(bill: Bill) -> dict[str, Any]:
    (found,) = bill.rows()
    return found


def test_replica_time_is_charged_at_the_price_of_the_flavor_it_runs_on_and_requests_are_counted() -> None:
    bill = Bill()
    noted(bill, 0.0, report(), report(replica="s", flavor="t4"))
    noted(bill, 1800.0, report(100, 4), report(50, replica="s", flavor="t4"))
    noted(bill, 3600.0, report(1000, 4), report(1000, replica="s", flavor="t4"))
    found = row(bill)
    assert found["flavor_hours"] == {"a10": 1.0, "t4": 1.0} and found["replica_hours"] == 2.0
    assert found["cost_usd"] == pytest.approx(1.2 + 0.4)
    assert (found["requests"], found["errors"]) == (2000, 4) and found["usd_per_1000"] == pytest.approx(0.8)
    assert (found["user"], found["since_s"]) == ("ann", WALL_S)


def test_a_flavor_without_a_price_makes_the_cost_unknown_and_the_hours_stay() -> None:
    bill = Bill()
    for at_s in (0.0, 3600.0):
        noted(bill, at_s, report(), report(replica="s", flavor="odd"))
    assert (row(bill)["cost_usd"], row(bill)["usd_per_1000"], row(bill)["replica_hours"]) == (None, None, 2.0)


def test_a_model_without_requests_has_a_cost_and_no_cost_of_a_thousand() -> None:
    bill = Bill()
    noted(bill, 0.0, report())
    noted(bill, 3600.0, report())
    assert (row(bill)["cost_usd"], row(bill)["usd_per_1000"]) == (pytest.approx(1.2), None)


def test_a_replica_that_is_gone_costs_until_its_last_report_and_its_requests_stay() -> None:
    bill = Bill()
    noted(bill, 0.0, report(10))
    noted(bill, 100.0, report(20))
    noted(bill, 7200.0, report(5, replica="next"))
    assert (row(bill)["requests"], row(bill)["replica_hours"]) == (25, pytest.approx(100 / 3600))


def test_what_a_replica_counted_counts_once_also_when_it_begins_anew() -> None:
    bill = Bill()
    noted(bill, 0.0, report(10, 2))
    noted(bill, 1.0, report(10, 2))
    noted(bill, 2.0, report(3, 1))
    noted(bill, 3.0, report(7, 1))
    assert (row(bill)["requests"], row(bill)["errors"]) == (17, 3)


def test_a_process_that_stands_in_answers_and_costs_nothing() -> None:
    bill = Bill()
    for at_s, num in ((0.0, 0), (60.0, 5)):
        noted(bill, at_s, report(num, is_bridge=True))
    assert (row(bill)["requests"], row(bill)["replica_hours"], row(bill)["cost_usd"]) == (5, 0.0, 0.0)


@pytest.mark.parametrize(("away_s", "charged_s"), [(60.0, 60.0), (-500.0, 0.0), (1e7, LONGEST_AWAY_S)])
def test_another_life_goes_on_with_the_sums_and_the_replicas_that_it_knew(away_s: float, charged_s: float) -> None:
    """Its monotonic clock began anew; the wall clock may have been set."""
    bill = Bill()
    noted(bill, 0.0, report(10))
    noted(bill, 100.0, report(20))
    kept = json.loads(json.dumps(bill.changed(WALL_S + 100.0)))
    again = Bill()
    again.restore({name: {**body, "of a later release": 1} for name, body in kept.items()})
    assert row(again) == row(bill)
    again.note(report(30), RECORD, 5.0, WALL_S + 100.0 + away_s)
    assert (row(again)["requests"], row(again)["replica_hours"]) == (30, pytest.approx((100.0 + charged_s) / 3600))


def test_a_wall_clock_that_is_set_charges_nothing() -> None:
    bill = Bill()
    bill.note(report(), RECORD, 0.0, WALL_S)
    bill.note(report(), RECORD, 10.0, WALL_S + 1e6)
    bill.note(report(), RECORD, 20.0, WALL_S)
    assert row(bill)["replica_hours"] == pytest.approx(20 / 3600)


def test_only_what_changed_is_written_and_what_could_not_be_is_written_later() -> None:
    bill = Bill()
    noted(bill, 0.0, report())
    first = bill.changed(WALL_S)
    assert first.keys() == {"m"} and bill.changed(WALL_S) == {}
    bill.note_unwritten(first)
    assert bill.changed(WALL_S).keys() == {"m"}
    noted(bill, 1.0, report())
    assert bill.changed(WALL_S + 1e6)["m"]["seen"] == {}, "whoever was silent for a day does not come back"


def test_it_is_written_again_when_the_journal_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    bill, written, tries = Bill(), list[Mapping[str, Any]](), list[str]()
    noted(bill, 0.0, report(3))

    async def save(stream: str, documents: Mapping[str, Any]) -> None:
        tries.append(stream)
        if len(tries) == 1:
            raise UnavailableError("the database is away")
        written.append(documents)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keep(bill, save, lambda: WALL_S))
    assert tries == ["model-usage"] * 2 and written[0]["m"]["requests"] == 3


def test_a_price_is_that_of_the_flavor_and_of_the_kind_of_the_place() -> None:
    assert [replica_price(RECORD, flavor) for flavor in ("a10", "t4", "odd", "unheard")] == [1.2, 0.4, None, None]
    older = replace(RECORD, placement={"flavor": "t4", "places": [{"flavor": "t4", "usd_per_h": 0.8}]})
    assert replica_price(older, "t4") == 0.4, "a record of a release that kept only the sum"


def test_rows_have_what_runs_now_beside_the_sums_and_stay_when_the_model_is_gone() -> None:
    world, bill = World(num_replicas=2), Bill()
    placed = world.core.placed("m", "1", RECORD.placement)
    for each in world.core.reports("m", "1"):
        world.core.beat(replace(each, flavor="t4"), world.now_s)
    for each in world.core.reports("m", "1"):
        bill.note(each, placed, 0.0, WALL_S)
    (now,) = with_shares(usage_rows(world.core, bill))
    assert now.keys() == set(MODEL_ROW_KEYS) and (now["replicas"], now["usd_per_h"]) == (2, pytest.approx(0.8))
    world.core.delete("m")
    (gone,) = usage_rows(world.core, bill)
    assert (gone["name"], gone["replicas"], gone["usd_per_h"]) == ("m", 0, 0.0)
