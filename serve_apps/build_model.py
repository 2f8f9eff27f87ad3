"""Builds what a replica serves from its source: runs a service's constructor, or loads a model file in its fastest shared form."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fabric.artefacts import ArtefactStore, Digest
from fabric.errors import FabricError
from serve_apps.execution.build import build_served_model, serve_runtime
from serve_apps.execution.served import Served
from serve_apps.load_model import load_model
from serve_apps.model_service import Capture
from serve_apps.replica_settings import ReplicaSettings
from serve_apps.runtimes import NUM_THREADS
from serve_apps.runtimes.onnx_file import is_onnx
from serve_apps.source import ServiceSource, get_source

log = logging.getLogger("ray.serve")


def build_model(settings: ReplicaSettings, store: ArtefactStore) -> Served:
    """Raises: whatever a service's constructor raises; `ModelError` where a file is no model that can be run here."""
    NUM_THREADS.set(max(1, int(settings.num_cpus)))
    source = get_source(Digest(settings.source), store)
    if isinstance(source, ServiceSource):
        service, args, kwargs, hints = source.capture()
        capture = Capture(service, args, kwargs, hints)
        return build_served_model(capture, settings.name, settings.version, settings.options)
    path = source.localise(store, settings.cache_path)
    return serve_runtime(_loaded(path, settings.cache_path), settings.name, settings.version, settings.options)


def _loaded(path: Path, cache: Path) -> Any:
    if path.is_file() and is_onnx(path):
        from serve_apps.runtimes.prepared import prepare
        from serve_apps.runtimes.prepared_model import load_prepared

        try:
            return load_prepared(prepare(path, cache / "prepared"), num_threads=NUM_THREADS.get())
        except FabricError as error:
            # A model that cannot be rewritten (or a full disk) still runs, with weights of its own.
            log.warning("not prepared model=%s reason=%s", path.name, error.message)
    return load_model(path)
