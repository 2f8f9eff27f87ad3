"""What a parked process needs for each version that may go to sleep, gathered on this machine before any request asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fabric.artefacts import ArtefactStore, Digest
from fabric.config import FabricConfig
from fabric.errors import FabricError
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.table import ServingTable
from serve_apps.gateway.waking import no_replica
from serve_apps.ingress.access import Access
from serve_apps.parking.messages import Adoption
from serve_apps.parking.rules import ModelVersion
from serve_apps.replica_settings import settings_for
from serve_apps.runtimes.onnx_file import is_onnx
from serve_apps.source import ServiceSource, get_source

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


class Adoptions:
    """`find` is for the gateway's loop and answers from memory; `follow` takes its time on another thread."""

    def __init__(self, config: FabricConfig, access: Access, *, is_open: bool, record_of: Callable[[str, str], DeployRecord]) -> None:
        self._config = config
        self._access = access
        self._is_open = is_open
        self._record_of = record_of
        self._store = ArtefactStore(config.storage)
        self._known: dict[ModelVersion, Adoption] = {}
        self._records: dict[ModelVersion, DeployRecord] = {}

    def record(self, model: ModelVersion) -> DeployRecord:
        """Raises: RejectedError (`no_replica`)."""
        record = self._records.get(model)
        if record is None:
            raise no_replica(*model)
        return record

    def can_adopt(self, model: ModelVersion) -> bool:
        """Parked processes are this machine's CPUs: what was placed on an accelerator waits for Serve's replica there."""
        record = self._records.get(model)
        return model in self._known and record is not None and record.placement.get("kind") == "cpu"

    def find(self, model: ModelVersion) -> Adoption:
        """Raises: RejectedError (`no_replica`)."""
        adoption = self._known.get(model)
        if adoption is None:
            raise no_replica(*model)
        tokens, mark = self._access.told
        return replace(adoption, tokens=tokens, tokens_mark=mark)

    def follow(self, table: ServingTable) -> list[ModelVersion]:
        """Gather what is new, forget what is gone; what is gone is returned."""
        wanted = {
            ModelVersion(model.name, deployment)
            for model in table.models.values()
            for deployment, entry in model.versions.items()
            if entry.min_replicas == 0 and entry.metadata is not None
        }
        for model in wanted - self._known.keys():
            try:
                record = self._record_of(*model)
                self._known[model] = self._gathered(record)
                self._records[model] = record
            except (FabricError, OSError) as error:
                log.warning("cannot be woken here model=%s version=%s: %s", *model, error)
        gone = list(self._known.keys() - wanted)
        for model in gone:
            del self._known[model], self._records[model]
        return gone

    def _gathered(self, record: DeployRecord) -> Adoption:
        settings = settings_for(record, self._config, is_open=self._is_open, host=LOOPBACK)
        source = get_source(Digest(record.source), self._store)
        idle_s = (record.settings.get("autoscale") or {}).get("idle_s")
        if not isinstance(source, ServiceSource):
            source_path = source.localise(self._store, settings.cache_path)
            return Adoption(settings, _prepared(source_path, settings.cache_path), idle_s=idle_s)
        return Adoption(settings, source, idle_s=idle_s)


def _prepared(path: Path, cache: Path) -> Path:
    if not path.is_file() or not is_onnx(path):
        return path
    from serve_apps.runtimes.prepared import prepare

    return prepare(path, cache / "prepared")
