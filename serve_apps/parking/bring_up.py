"""Builds what a parked process was told to serve: a loaded model or a service."""

from __future__ import annotations

from pathlib import Path

from serve_apps.execution.build import build_served_model, serve_runtime
from serve_apps.execution.served import Served
from serve_apps.load_model import load_model
from serve_apps.model_service import Capture
from serve_apps.parking.messages import Adoption
from serve_apps.parking.page_cache import read_ahead
from serve_apps.runtimes import NUM_THREADS
from serve_apps.runtimes.prepared import MANIFEST
from serve_apps.runtimes.prepared_model import load_prepared


def bring_up(adoption: Adoption) -> Served:
    """Raises: whatever the model's loading or its constructor raises."""
    settings, source = adoption.settings, adoption.source
    num_threads = max(1, int(settings.num_cpus))
    NUM_THREADS.set(num_threads)
    if not isinstance(source, Path):
        return build_served_model(Capture(*source.capture()), settings.name, settings.version, settings.options)
    if (source / MANIFEST).exists():
        # Beside the loading and the first run, which touch the same pages in the same order.
        read_ahead([source / "mapped.bin"])
        runtime = load_prepared(source, num_threads=num_threads)
        return serve_runtime(runtime, settings.name, settings.version, settings.options)
    return serve_runtime(load_model(source, num_threads=num_threads).runtime, settings.name, settings.version, settings.options)
