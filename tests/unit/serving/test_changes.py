"""What users ask to change of a model's traffic, over a real registry: which versions may, what is deployed for it, and the ways back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError
from fabric.registry.registry import Registry, nothing_served
from fabric.registry.signature import Signature
from fabric.registry.sql import SqlVersions
from fabric.registry.version import By, ModelFile, NewVersion
from serve_apps.directory import carrier, rollouts
from serve_apps.directory.changes import Changes
from serve_apps.directory.experiments import Experiments
from serve_apps.directory.observed import Sum
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.releases import Releases
from serve_apps.directory.requests import DeployRequest
from serve_apps.tensors import TensorSpec
from tests.directory_world import World

FAST: dict[str, Any] = {"steps": [50, 100], "soak": 5.0, "min_samples": 10, "guards": ["error_rate<=+1%"]}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "RETIRE_AFTER_S", 0.0)
    monkeypatch.setattr(rollouts, "RETIRE_AFTER_S", 0.0)
    monkeypatch.setattr(carrier, "POLL_S", 0.0)


class Desk:
    """Version 1 answers; 2 is as good; 3 has another output."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.registry = Registry(
            SqlVersions(f"sqlite:///{folder / 'journal.db'}"), ArtefactStore((folder / "store").as_uri()), nothing_served
        )
        for number in range(1, 4):
            output = "z" if number == 3 else "y"
            signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec(output, "FP32", (-1, 2)),))
            file = ModelFile("model.onnx", self.registry.artefacts.put(f"weights {number}".encode()))
            self.registry.register("m", NewVersion("onnx", (file,), "model.onnx", signature), By("ann"), now_s=float(number))
        world = self.world
        self.experiments = Experiments(world.core, self._carrier(), world.save, world.keep, world.spawn, lambda: world.now_s)
        self.changes = Changes(world.core, Releases(world.core, self.registry, None), world.rollouts, self.experiments, self.deploy)

    def _carrier(self) -> carrier.Carrier:
        return carrier.Carrier(self.world.core, self.world.serve, self.world.keep)

    async def deploy(self, request: DeployRequest) -> DeployRecord:
        """As the directory's actor does it."""
        self.changes.refuse_overlap(request.name)
        spec = self.changes.spec_of(request)
        request = await self.changes.releases.numbered(request)
        record = self.changes.begin(request)
        if spec is not None:
            await self.changes.rollouts.start(self.changes.rollouts.begin(record, spec, request.user), record)
        elif not await self._carrier().bring_up(record):
            await self._carrier().end_later(self.world.core.activate(record.name, record.key))
        return record


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


async def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(FabricError) as caught:
        await work
    return caught.value.code


def test_a_registered_version_is_rolled_out_by_its_alias(desk: Desk) -> None:
    async def story() -> None:
        desk.registry.set_aliases("m", {"challenger": 2}, By("ann"))
        shown = await desk.changes.start_rollout("m", "challenger", None, FAST, "ann")
        assert (shown["champion"], shown["challenger"], shown["state"]) == ("1", "2", "starting")
        await desk.world.after(60)
        await desk.world.settled()
        assert desk.world.core.default("m") == "2"

    run(story)


def test_what_cannot_take_the_place_is_refused_and_nothing_begins(desk: Desk) -> None:
    async def story() -> None:
        start = desk.changes.start_rollout
        assert await refused(start("m", "3", None, FAST, "ann")) == "signature_differs"
        assert await refused(start("m", "1", None, FAST, "ann")) == "same_version"
        assert await refused(start("m", "9", None, FAST, "ann")) == "unknown_version"
        assert await refused(start("m", "2", None, {**FAST, "steps": [50, 10]}, "ann")) == "bad_rollout"
        assert await refused(start("m", "2", None, {**FAST, "guards": ["latenzy_p95<=1.2x"]}, "ann")) == "unknown_guard_metric"
        assert await refused(start("m", "2", None, {**FAST, "speed": 3}, "ann")) == "bad_rollout"
        assert await refused(start("bert", "2", None, FAST, "ann")) == "unknown_model"
        assert [record.key for record in desk.world.core.records("m")] == ["1"]
        await start("m", "3", None, {**FAST, "allow_signature_change": True}, "ann")
        assert await refused(start("m", "2", None, FAST, "ann")) == "rollout_running"
        assert await refused(desk.changes.start_experiment("m", {"1": 50, "2": 50}, "clicks", {}, "ann")) == "rollout_running"

    run(story)


def test_a_version_may_be_compared_with_itself_on_another_tier(desk: Desk) -> None:
    async def story() -> None:
        shown = await desk.changes.start_rollout("m", "1", "cold", FAST, "ann")
        assert shown["challenger"] == "1.1" and "cost_per_1000<=1x" not in shown["spec"]["guards"]
        await desk.world.rollouts.order("m", "abort", "ann")
        bare = {key: value for key, value in FAST.items() if key != "guards"}
        assert "cost_per_1000<=1x" in (await desk.changes.start_rollout("m", "1", "cold", bare, "ann"))["spec"]["guards"]
        assert desk.world.core.deployment("m", "1.1").settings["tier"] == "cold"

    run(story)


def test_back_is_at_once_while_both_run_and_a_deploy_of_the_version_before_later(desk: Desk) -> None:
    async def story() -> None:
        assert await refused(desk.changes.roll_back("m", "", "ann")) == "no_earlier_version"
        await desk.changes.start_rollout("m", "2", None, FAST, "ann")
        await desk.world.after(3)
        assert await desk.changes.roll_back("m", "", "ann") == {"model": "m", "version": "1", "state": "answers"}
        assert desk.world.split is None and desk.world.core.default("m") == "1"
        await desk.world.settled()
        await desk.changes.start_rollout("m", "2", None, FAST, "ann")
        await desk.world.rollouts.look()
        await desk.world.rollouts.order("m", "promote", "ann")
        await desk.world.settled()
        assert desk.world.core.record("m").version == "2"
        assert (await desk.changes.roll_back("m", "", "ann"))["state"] == "starting"
        assert desk.world.core.record("m").key == "1.1" and desk.world.core.version_before("m") == "2"

    run(story)


def test_a_deploy_registers_its_version_and_its_files(desk: Desk) -> None:
    async def story() -> None:
        known = await desk.changes.releases.request("m", "2", "ann")
        request = DeployRequest("m", "ann", known.settings, known.source, {}, framework="onnx", origin="resnet.onnx")
        numbered = await desk.changes.releases.numbered(request)
        assert numbered.version == "4"
        registered = desk.registry.find("m", "4")
        assert (registered.source, registered.framework, registered.digest) == ("resnet.onnx", "onnx", desk.registry.find("m", "2").digest)
        assert await refused(desk.changes.releases.numbered(DeployRequest("m", "bob", {}, known.source, {}))) == "forbidden"

    run(story)


def test_aliases_lead_requests_once_they_are_known(desk: Desk) -> None:
    async def story() -> None:
        desk.registry.set_aliases("m", {"champion": 1, "next": 2}, By("ann"))
        await desk.changes.releases.follow_aliases()
        assert dict(desk.world.core.table().models["m"].names) == {"champion": "1", "1": "1"}

    run(story)


def test_an_experiment_divides_traffic_and_says_who_is_better(desk: Desk) -> None:
    async def story() -> None:
        await desk.changes.start_experiment("m", {"1": 30, "2": 70}, "clicks", {}, "ann")
        await asyncio.sleep(0.2)
        await desk.experiments.look()
        assert desk.world.core.shares("m") == {"1": 3_000, "2": 7_000}
        for key, rate in (("1", 0.1), ("2", 0.5)):
            desk.world.core.sightings.add_metric("m", key, "clicks", Sum(2_000, 2_000 * rate, 2_000 * rate))
        await desk.experiments.look()
        shown = desk.experiments.shown("m")
        assert (shown["state"], shown["winner"]) == ("concluded", "2")
        assert await refused(desk.changes.start_rollout("m", "2", None, FAST, "ann")) == "experiment_running"
        await desk.experiments.stop("m", "ann")
        await desk.world.settled()
        assert desk.world.core.shares("m") == {"1": 10_000} and desk.world.serve.apps == {"m.v1": 2}
        assert await refused(desk.experiments.stop("m", "ann")) == "experiment_ended"

    run(story)


def test_an_arm_that_cannot_start_ends_the_experiment_and_traffic_stays(desk: Desk) -> None:
    async def story() -> None:
        desk.world.serve.fails = "no such file"
        await desk.changes.start_experiment("m", {"1": 50, "2": 50}, "clicks", {}, "ann")
        await asyncio.sleep(0.2)
        shown = desk.experiments.shown("m")
        assert shown["is_over"] and "no such file" in shown["reason"] and desk.world.core.shares("m") == {"1": 10_000}

    run(story)


def test_an_experiment_that_cannot_be_kept_has_not_begun(desk: Desk) -> None:
    async def story() -> None:
        desk.world.is_away = True
        assert await refused(desk.changes.start_experiment("m", {"1": 50, "2": 50}, "clicks", {}, "ann")) == "unavailable"
        desk.world.is_away = False
        assert {record.key: record.state for record in desk.world.core.records("m")} == {"1": "ready", "2": "failed"}
        await desk.changes.start_experiment("m", {"1": 50, "2": 50}, "clicks", {}, "ann")
        await desk.world.settled()
        assert desk.experiments.shown("m")["state"] == "running"

    run(story)


def test_of_two_experiments_at_once_one_is_refused(desk: Desk) -> None:
    async def story() -> None:
        start = desk.changes.start_experiment
        begun = (start("m", {"1": 50, "2": 50}, "clicks", {}, user) for user in ("ann", "bob"))
        both = await asyncio.gather(*begun, return_exceptions=True)
        assert {getattr(one, "code", "") for one in both} == {"", "experiment_running"}
        assert len(desk.world.core.records("m")) == 2

    run(story)


def test_arms_that_are_one_version_or_do_not_sum_are_refused(desk: Desk) -> None:
    async def story() -> None:
        desk.registry.set_aliases("m", {"champion": 1}, By("ann"))
        for arms in ({"1": 50, "champion": 50}, {"1": 50, "2": 60}, {"1": 100}):
            assert await refused(desk.changes.start_experiment("m", arms, "clicks", {}, "ann")) == "bad_experiment"

    run(story)
