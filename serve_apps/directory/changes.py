"""What users ask to change of a model's traffic: a rollout, an experiment, a way back. One at a time of each model."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabric.errors import UnknownNameError, UserError
from serve_apps.directory.carrier import num_wanted
from serve_apps.directory.core import Directory
from serve_apps.directory.experiments import Experiments
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.releases import Releases, parse_canary
from serve_apps.directory.requests import DeployRequest
from serve_apps.directory.rollouts import Rollouts
from serve_apps.directory.surge import check_surge
from serve_apps.rollout.experiment import Experiment, parse_arms
from serve_apps.rollout.guards import PLACE_GUARDS
from serve_apps.rollout.spec import RolloutSpec


class Changes:
    """`deploy`: the directory's own."""

    def __init__(
        self,
        core: Directory,
        releases: Releases,
        rollouts: Rollouts,
        experiments: Experiments,
        deploy: Callable[[DeployRequest], Awaitable[DeployRecord]],
    ) -> None:
        self._core, self.releases, self.rollouts, self.experiments, self._deploy = core, releases, rollouts, experiments, deploy

    async def start_rollout(self, name: str, to: str, tier: str | None, fields: Mapping[str, Any], user: str) -> dict[str, Any]:
        """Deploy a registered version beside what answers, on a tier if one is named. `fields`: of a `Canary`.

        Raises: as `parse_canary`, `Releases.request`, and the deploy.
        """
        self.refuse_overlap(name)
        if tier is not None and not fields.get("guards"):
            fields = {**fields, "guards": PLACE_GUARDS}
        await self._deploy(await self.releases.request(name, to, user, tier=tier, spec=parse_canary(fields)))
        return self.rollouts.shown(name)

    async def roll_back(self, name: str, to: str, user: str) -> dict[str, Any]:
        """To the version before, or to `to`, which is deployed again. A rollout under way is aborted: its champion never stopped.

        Raises: UnknownNameError, UserError (`no_earlier_version`).
        """
        if self.rollouts.is_running(name):
            await self.rollouts.order(name, "abort", user)
            to = to or self._core.record(name).version
        wanted = to or self._core.version_before(name)
        if not wanted:
            raise UserError(f"{name} has had one version only", code="no_earlier_version", hint=f"fabric model versions {name}")
        answers = self._core.record(name)
        if wanted in (answers.version, answers.key):
            return {"model": name, "version": answers.version, "state": "answers"}
        record = await self._deploy(await self.releases.request(name, wanted, user))
        return {"model": name, "version": record.version, "state": "starting"}

    async def start_experiment(
        self, name: str, arms: Mapping[str, float] | str, metric: str, fields: Mapping[str, Any], user: str
    ) -> dict[str, Any]:
        """Divide a model's traffic among versions or aliases; those that do not run are started.

        Raises: UserError (`bad_experiment`), UnknownNameError (`unknown_version`), RejectedError (`rollout_running`, …).
        """
        self.refuse_overlap(name)
        experiment = Experiment(parse_arms(arms), metric, time.time(), **fields)
        requests = {arm.name: await self.releases.request(name, arm.name, user) for arm in experiment.arms}
        if len({request.version for request in requests.values()}) < len(requests):
            raise UserError("two arms are one version", code="bad_experiment", hint=f"fabric model versions {name}")
        self.refuse_overlap(name)  # somebody else may have begun meanwhile
        keys, started = {}, []
        for arm, request in requests.items():
            record = self._core.ready_of(name, request.version)
            if record is None:
                record = self.begin(request)
                started.append(record)
            keys[arm] = record.key
        await self.experiments.begin(name, user, experiment, keys, started)
        return self.experiments.shown(name)

    def begin(self, request: DeployRequest) -> DeployRecord:
        """Its deployment, not started yet."""
        record = self._core.begin(request.name, request.user, request.settings, request.source, time.time(), version=request.version)
        return self._core.placed(record.name, record.key, request.placement)

    def refuse_overlap(self, name: str) -> None:
        """Raises: RejectedError (`rollout_running`, `experiment_running`)."""
        self.rollouts.refuse_overlap(name)
        self.experiments.refuse_overlap(name)

    def is_divided(self, name: str) -> bool:
        """Whether a rollout or an experiment leads its traffic."""
        return self.rollouts.is_running(name) or self.experiments.is_running(name)

    def spec_of(self, request: DeployRequest) -> RolloutSpec | None:
        """None: nothing answers yet, or no rollout is asked for. Raises: UserError (`bad_max_surge`)."""
        try:
            champion = self._core.record(request.name)
        except UnknownNameError:
            return None
        if request.rollout is None or champion.key != self._core.default(request.name):
            return None
        spec = RolloutSpec.from_json(request.rollout)
        check_surge(num_wanted(champion), spec.max_surge, is_scaled=bool(champion.settings.get("autoscale")))
        return spec
