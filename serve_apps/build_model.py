"""Builds what a replica serves from its source: runs a service's constructor, or loads a model file in its fastest shared form."""

from __future__ import annotations

from fabric.artefacts import ArtefactStore, Digest
from serve_apps.execution.build import build_served_model, serve_runtime
from serve_apps.execution.served import Served
from serve_apps.load_model import load_model
from serve_apps.model_service import Capture
from serve_apps.replica_settings import ReplicaSettings
from serve_apps.runtimes import NUM_THREADS, WEIGHTS_CACHE
from serve_apps.source import ServiceSource, get_source


def build_model(settings: ReplicaSettings, store: ArtefactStore) -> Served:
    """Raises: whatever a service's constructor raises; `ModelError` where a file is no model that can be run here."""
    NUM_THREADS.set(max(1, int(settings.num_cpus)))
    WEIGHTS_CACHE.set(settings.cache_path / "prepared")
    source = get_source(Digest(settings.source), store)
    if isinstance(source, ServiceSource):
        service, args, kwargs, hints = source.capture()
        capture = Capture(service, args, kwargs, hints)
        return build_served_model(capture, settings.name, settings.version, settings.options)
    path = source.localise(store, settings.cache_path)
    return serve_runtime(load_model(path).runtime, settings.name, settings.version, settings.options)
