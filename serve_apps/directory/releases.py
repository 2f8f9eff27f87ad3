"""From registered versions to deployments: what a deploy registers, what a rollout and a way back deploy. On the directory's loop.

Every deployment is of a registered version: one that was never registered is when it is deployed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fabric.artefacts import Digest
from fabric.errors import UserError
from fabric.offers import ModelPrior
from fabric.registry.names import LATEST
from fabric.registry.registry import Registry
from fabric.registry.signature import Signature, check_same
from fabric.registry.version import By, ModelVersion, NewVersion
from fabric.types import Offer
from serve_apps.directory.core import Directory
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.requests import DeployRequest
from serve_apps.moving import wish_of
from serve_apps.place_model import Wish, placement_json
from serve_apps.placing import choose
from serve_apps.registry.deploying import files_of, source_digest
from serve_apps.registry.reading import SERVICE
from serve_apps.rollout.spec import Canary, RolloutSpec
from serve_apps.source import get_source


class Releases:
    """`offers`: the places for a model; without it a version goes where the one that answers is."""

    def __init__(
        self,
        core: Directory,
        registry: Registry,
        offers: Callable[[Wish, ModelPrior], Sequence[Offer]] | None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._core, self._registry, self._offers, self._wall = core, registry, offers, wall

    async def numbered(self, request: DeployRequest) -> DeployRequest:
        """The same with its version's number, registered now where it has none.

        Raises: RejectedError (`forbidden`: the name is another user's), UnavailableError, RuntimeFault (`storage_full`).
        """
        if request.version:
            return request
        return replace(request, version=str((await asyncio.to_thread(self._registered, request)).number))

    async def request(self, name: str, word: str, user: str, *, tier: str | None = None, spec: RolloutSpec | None = None) -> DeployRequest:
        """A deploy of a registered version in the manner of what answers now: as many replicas, the same options unless the version has
        its own, placed anew. Raises: UnknownNameError, UserError (`same_version`), RejectedError (`signature_differs`), NoFitError."""
        champion = self._core.record(name)
        version = await asyncio.to_thread(self._registry.find, name, word or LATEST)
        if spec is not None:
            _check_challenger(champion, version, spec, tier)
        settings = dict(champion.settings)
        if "options" in version.settings:
            settings["options"] = version.settings["options"]
        if tier is not None:
            settings["tier"] = tier
        source = await asyncio.to_thread(source_digest, version, self._registry.artefacts)
        number = str(version.number)
        wanted = DeployRecord(name, number, user, self._wall(), settings, source, placement=champion.placement)
        placement = await asyncio.to_thread(self._placed, wanted)
        return DeployRequest(name, user, settings, source, placement, number, None if spec is None else spec.as_json())

    async def learn(self, record: DeployRecord) -> None:
        """What a replica found of a version's inputs and outputs, of one that was registered without. It is not needed to serve."""
        metadata = record.metadata
        if metadata is not None:
            signature = Signature(metadata.inputs, metadata.outputs)
            await asyncio.to_thread(self._registry.learn_signature, record.name, int(record.version), signature)

    async def follow_aliases(self) -> None:
        """Take over what each model's versions are called. Raises: FabricError where the database is away: names stay."""
        called = await asyncio.to_thread(self._registry.aliases_of, list(self._core.table().models))
        for name, aliases in called.items():
            self._core.set_aliases(name, {alias: str(number) for alias, number in aliases.items()})

    def _registered(self, request: DeployRequest) -> ModelVersion:
        store = self._registry.artefacts
        files, main = files_of(get_source(Digest(request.source), store), store)
        new = NewVersion(request.framework or SERVICE, files, main, source=request.origin, settings=request.settings)
        return self._registry.register(request.name, new, By(request.user), now_s=self._wall())

    def _placed(self, record: DeployRecord) -> Mapping[str, Any]:
        if self._offers is None:
            return record.placement
        wish, prior = wish_of(record), ModelPrior.from_json(record.placement.get("prior"))
        return placement_json(choose(self._offers(wish, prior), wish.need()), prior)


def parse_canary(fields: Mapping[str, Any]) -> RolloutSpec:
    """Raises: UserError (`bad_rollout`, `bad_guard`, …)."""
    try:
        return Canary(**fields)
    except TypeError as error:
        raise UserError(f"a rollout has no such field: {error}", code="bad_rollout") from None


def _check_challenger(champion: DeployRecord, version: ModelVersion, spec: RolloutSpec, tier: str | None) -> None:
    if str(version.number) == champion.version and tier is None:
        raise UserError(
            f"{version.ref} answers already",
            code="same_version",
            hint="--to another version, or --tier to compare it with itself elsewhere",
        )
    metadata = champion.metadata
    if not spec.allow_signature_change and metadata is not None:
        names = (f"version {champion.version}", f"version {version.number}")
        check_same(Signature(metadata.inputs, metadata.outputs), version.signature, names=names)
