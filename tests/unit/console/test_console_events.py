"""What open pages are told: once for all that see the same, of no job that a token may not see, and until it no longer opens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fabric.console import events as events_module
from fabric.console.events import BEAT, Events
from fabric.errors import RejectedError
from fabric.job import JobId
from fabric.job_events import JobClosed, JobSubmitted
from fabric.plane.driver import STREAM
from tests.console_world import ConsoleWorld, a_console
from tests.jobs import spec

UNTIL_S = 20.0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleWorld]:
    monkeypatch.setattr(events_module, "TICK_S", 0.01)
    with a_console(tmp_path) as made:
        made.console.events._overview_s = float("inf")  # no overviews, unless a test wants them
        yield made


def opened(world: ConsoleWorld, token: str) -> AsyncIterator[bytes]:
    events: Events = world.console.events
    return events.open(partial(world.console.tokens.principal, world.secrets.get(token, token)))


async def told(stream: AsyncIterator[bytes]) -> tuple[str, Any]:
    message = (await asyncio.wait_for(anext(stream), UNTIL_S)).decode()  # type: ignore[arg-type]
    kind, data = message.strip().split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def submit(world: ConsoleWorld, name: str, user: str, queue: str = "default") -> None:
    world.journal.append_all(STREAM, [JobSubmitted(spec(name, user=user, queue=queue, submitted_s=1.0), user)])
    world.console.follower.follow()


def test_a_change_reaches_those_who_may_see_it(world: ConsoleWorld) -> None:
    async def run() -> None:
        anns, bobs = opened(world, "ann"), opened(world, "bob")
        for stream in (anns, bobs):
            kind, hello = await told(stream)
            assert kind == "hello" and hello["seq"] == world.console.follower.model.seq
        submit(world, "of-bob", "bob")
        kind, of_ann = await told(anns)
        _, of_bob = await told(bobs)
        assert kind == "jobs" and (of_ann["ids"], of_ann["states"]) == ([], {})
        assert (of_bob["ids"], of_bob["states"]) == (["of-bob"], {"PENDING": 1})
        assert of_bob["seq"] == world.journal.last_seq(STREAM) and of_bob["at_s"] == world.console.follower.model.newest_s
        submit(world, "of-ann", "ann")
        assert (await told(anns))[1]["ids"] == ["of-ann"]

    asyncio.run(run())


def test_many_changes_are_one_event_that_names_none(world: ConsoleWorld) -> None:
    async def run() -> None:
        stream = opened(world, "root")
        await told(stream)
        facts = [JobSubmitted(spec(f"j{n}", submitted_s=1.0), "ann") for n in range(201)]
        world.journal.append_all(STREAM, facts)
        world.console.follower.follow()
        kind, event = await told(stream)
        assert (kind, event["ids"], event["states"]) == ("jobs", None, {"PENDING": 201})
        world.journal.append_all(STREAM, [JobClosed(JobId("j0"), "CANCELLED", "Cancelled")])
        world.console.follower.follow()
        assert (await told(stream))[1]["ids"] == ["j0"]

    asyncio.run(run())


def test_the_overview_is_told_when_it_changes_and_then_only(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "OVERVIEW_S", 0.02)

    async def run() -> None:
        world.console.events._overview_s = float("-inf")
        stream = opened(world, "ann")
        await told(stream)
        kind, overview = await told(stream)
        assert kind == "overview" and overview["who"]["user"] == "ann" and overview["jobs"] == {}
        await asyncio.sleep(0.1)  # several more would have come by now
        submit(world, "one", "ann")
        kinds = [await told(stream) for _ in range(2)]
        assert sorted(kind for kind, _ in kinds) == ["jobs", "overview"]
        assert next(event for kind, event in kinds if kind == "overview")["jobs"] == {"PENDING": 1}

    asyncio.run(run())


def test_nodes_and_models_are_told(world: ConsoleWorld) -> None:
    async def run() -> None:
        stream = opened(world, "ann")
        await told(stream)
        world.console.follower.look()
        assert (await told(stream))[0] == "nodes"
        world.door.model_list.append("resnet")
        world.console.follower._asked_models_s = float("-inf")
        world.console.follower.ask()
        assert (await told(stream))[0] == "models"

    asyncio.run(run())


def test_silence_is_broken_by_a_beat(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "BEAT_S", 0.02)

    async def run() -> None:
        stream = opened(world, "ann")
        await told(stream)
        assert await asyncio.wait_for(anext(stream), UNTIL_S) == BEAT  # type: ignore[arg-type]

    asyncio.run(run())


def test_a_page_whose_token_was_revoked_is_ended(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "CHECK_S", 0.0)

    async def run() -> None:
        token = world.token_of("eve", "read")
        stream = opened(world, token)
        await told(stream)
        world.tokens.revoke(token.split("_")[1])
        world.console_tokens_are_old()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(stream), UNTIL_S)  # type: ignore[arg-type]
        assert world.console.events.num_readers == 0

    asyncio.run(run())


def test_a_page_that_does_not_read_is_dropped_and_the_others_are_told(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MOST_WAITING", 3)

    async def run() -> None:
        slow, quick = opened(world, "ann"), opened(world, "ann")
        await told(slow)
        await told(quick)
        for n in range(8):
            submit(world, f"j{n}", "ann")
            assert (await told(quick))[1]["ids"] == [f"j{n}"]
        with pytest.raises(StopAsyncIteration):
            while True:
                await asyncio.wait_for(anext(slow), UNTIL_S)  # type: ignore[arg-type]
        assert world.console.events.num_readers == 1

    asyncio.run(run())


def test_there_are_only_so_many_pages(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MOST_READERS", 1)

    async def run() -> None:
        stream = opened(world, "ann")
        await told(stream)
        with pytest.raises(RejectedError) as refused:
            opened(world, "ann")
        assert refused.value.code == "too_many_waiting" and refused.value.retryable
        await stream.aclose()  # type: ignore[attr-defined]
        assert opened(world, "ann") is not None

    asyncio.run(run())
