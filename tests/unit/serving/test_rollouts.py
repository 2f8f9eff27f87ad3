"""Rollouts carried: what is written down before traffic changes, what happens to replicas, and what a crash in between leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fabric.errors import RejectedError, UnavailableError, UnknownNameError, UserError
from serve_apps.directory import carrier, rollouts
from serve_apps.directory.rollouts import FACTS, STREAM
from serve_apps.directory.surge import Surge, check_surge, surge_at
from serve_apps.rollout.spec import Canary
from tests.directory_world import SPEC, World


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "RETIRE_AFTER_S", 0.0)
    monkeypatch.setattr(rollouts, "RETIRE_AFTER_S", 0.0)
    monkeypatch.setattr(carrier, "POLL_S", 0.0)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def test_a_good_version_gets_its_steps_and_then_everything_and_the_old_one_ends_only_then() -> None:
    async def story() -> None:
        world = World()
        record = await world.started()
        await world.after(1)
        assert dict(world.split.shares) == {"1": 9_000, "2": 1_000}  # type: ignore[union-attr]
        assert world.serve.apps == {"m.v1": 2, "m.v2": 2}
        await world.after(60)
        await world.settled()
        assert world.rollouts.shown("m")["state"] == "promoted"
        assert (world.core.default("m"), world.split, world.serve.apps) == (record.key, None, {"m.v2": 2})
        told = [fact["to"] for fact in world.kept[FACTS].values()]
        assert told == ["stepping", "stepping", "promoted"] and all("figures" in fact for fact in world.kept[FACTS].values())

    run(story)


def test_a_bad_version_is_taken_back_with_the_reason_and_the_old_one_never_stopped() -> None:
    async def story() -> None:
        world = World()
        await world.started()
        await world.after(1)
        await world.after(5, errors=300)
        await world.settled()
        assert world.rollouts.shown("m")["state"] == "rolled_back"
        assert (world.core.default("m"), world.split, world.serve.apps) == ("1", None, {"m.v1": 2})
        assert "error_rate" in world.core.deployment("m", "2").why

    run(story)


def test_a_version_that_cannot_start_leaves_traffic_where_it_was() -> None:
    async def story() -> None:
        world = World()
        world.serve.fails = "ImportError: no module named tokens"
        await world.started()
        await world.after(1)
        await world.settled()
        assert world.rollouts.shown("m")["state"] == "failed"
        assert (world.core.default("m"), world.split, world.serve.apps) == ("1", None, {"m.v1": 2})
        assert "no module named tokens" in world.core.deployment("m", "2").why

    run(story)


def test_while_the_database_is_away_traffic_stays_and_then_it_goes_on() -> None:
    async def story() -> None:
        world = World()
        await world.started()
        await world.after(1)
        before = world.split
        world.is_away = True
        await world.after(30)
        assert world.split == before and world.rollouts.shown("m")["trouble"] == "the database is away"
        with pytest.raises(UnavailableError):
            await world.rollouts.order("m", "promote", "ann")
        assert world.rollouts.shown("m")["state"] != "promoted"
        world.is_away = False
        await world.after(60)
        await world.settled()
        assert world.rollouts.shown("m")["state"] == "promoted" and world.core.default("m") == "2"
        assert world.rollouts.shown("m")["trouble"] == ""

    run(story)


def test_a_directory_that_dies_goes_on_where_it_was() -> None:
    async def story() -> None:
        world = World()
        await world.started()
        await world.after(6)
        world.restart()
        assert world.split is None
        await world.after(1)
        assert world.split is not None and world.rollouts.is_running("m")
        await world.after(60)
        await world.settled()
        assert world.core.default("m") == "2"
        world.restart()
        await world.after(2)
        assert not world.rollouts.is_running("m") and world.core.default("m") == "2", "what has ended is not ended again"

    run(story)


def test_one_that_died_between_the_decision_and_the_change_makes_the_change() -> None:
    async def story() -> None:
        world = World()
        await world.started()
        await world.after(1)
        world.kept[STREAM]["m"]["rollout"]["state"] = "promoted"
        world.restart()
        await world.after(1)
        await world.settled()
        assert (world.core.default("m"), world.serve.apps) == ("2", {"m.v2": 2})

    run(story)


def test_one_model_has_one_rollout_at_a_time() -> None:
    async def story() -> None:
        world = World()
        await world.started()
        with pytest.raises(RejectedError) as caught:
            world.rollouts.begin(world.begin(), SPEC, "bob")
        assert caught.value.code == "rollout_running"
        await world.rollouts.order("m", "abort", "ann")
        assert not world.rollouts.is_running("m")
        with pytest.raises(RejectedError, match="aborted"):
            await world.rollouts.order("m", "resume", "ann")
        with pytest.raises(UnknownNameError):
            world.rollouts.shown("resnet")

    run(story)


def test_a_model_that_is_deleted_ends_its_rollout_and_may_be_deployed_again() -> None:
    async def story() -> None:
        world = World()
        await world.started()
        await world.after(2)
        world.core.delete("m")
        await world.rollouts.forget("m")
        assert not world.rollouts.is_running("m") and world.rollouts.shown("m")["state"] == "aborted"
        await world.rollouts.look()
        world.begin()
        world.restart()
        assert not world.rollouts.is_running("m")

    run(story)


def test_without_surge_both_together_never_have_more_replicas_than_the_model_has() -> None:
    async def story() -> None:
        world = World(4)
        spec = Canary(steps=[1, 50, 100], soak=5.0, min_samples=10, guards=["error_rate<=+1%"], max_surge=0)
        await world.started(spec, num_replicas=4)
        seen = set()
        for _ in range(80):
            await world.after(1)
            await world.settled()
            seen.add((world.serve.apps.get("m.v1", 0), world.serve.apps.get("m.v2", 0)))
        assert world.serve.most == 4 and {(3, 1), (2, 2), (1, 3), (0, 4)} <= seen
        assert world.core.default("m") == "2"

    run(story)


def test_without_surge_a_way_back_gives_the_old_version_its_replicas_again() -> None:
    async def story() -> None:
        world = World(4)
        spec = Canary(steps=[50, 100], soak=50.0, min_samples=10, guards=["error_rate<=+1%"], max_surge=0)
        await world.started(spec, num_replicas=4)
        for errors in (0, 0, *[400] * 8):
            await world.after(1, errors=errors)
            await world.settled()
        assert world.serve.apps == {"m.v1": 4} and world.serve.most == 4

    run(story)


@pytest.mark.parametrize("num", [2, 3, 7])
@pytest.mark.parametrize("most", [0, 1, 3])
def test_surge_keeps_its_bound_and_one_of_each(num: int, most: int) -> None:
    for percent in range(101):
        surge = surge_at(percent / 100, num, most)
        assert isinstance(surge, Surge)
        assert surge.num_champion + surge.num_challenger <= num + most
        assert 1 <= surge.num_champion <= num and 1 <= surge.num_challenger <= num
    assert surge_at(0.5, num, None) is None


def test_a_surge_that_cannot_be_kept_is_refused() -> None:
    for num, is_scaled in ((1, False), (3, True)):
        with pytest.raises(UserError) as caught:
            check_surge(num, 0, is_scaled=is_scaled)
        assert caught.value.code == "bad_max_surge"
    check_surge(1, 1, is_scaled=False)
    check_surge(1, None, is_scaled=True)
