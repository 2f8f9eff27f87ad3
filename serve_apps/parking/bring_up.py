"""Builds what a parked process was told to serve: a loaded model or a service, behind the protocol's app.

Runs on the server's loop. The process serves nothing else, so that a constructor may hold the loop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_apps.execution.build import build_served_model, serve_runtime
from serve_apps.execution.served import Served
from serve_apps.load_model import load_model
from serve_apps.model_service import Capture
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from serve_apps.parking.messages import Adoption
from serve_apps.parking.page_cache import read_ahead
from serve_apps.runtimes import NUM_THREADS
from serve_apps.runtimes.prepared import is_complete
from serve_apps.runtimes.prepared_model import load_prepared
from serve_apps.serve_options import parse_serve_options


@dataclass(slots=True)
class BroughtUp:
    """`took_ms`: what each part took, in their order."""

    served: Served
    app: Any
    took_ms: dict[str, float] = field(default_factory=dict)


async def bring_up(adoption: Adoption) -> BroughtUp:
    """Raises: whatever the model's loading or its constructor raises."""
    begun_s = time.perf_counter()
    served = build(adoption)
    built_s = time.perf_counter()
    plane = DataPlane()
    plane.add(served)
    app = RestApp(plane)
    took_ms = {"build": 1e3 * (built_s - begun_s), "app": 1e3 * (time.perf_counter() - built_s)}
    return BroughtUp(served, app, took_ms)


def build(adoption: Adoption) -> Served:
    name, version = adoption.model
    source = adoption.source
    options = parse_serve_options(adoption.options)
    NUM_THREADS.set(adoption.num_threads)
    if not isinstance(source, Path):
        return build_served_model(Capture(*source.capture()), name, version, options)
    if source.is_dir() and is_complete(source):
        # Beside the loading and the first run, which touch the same pages in the same order.
        read_ahead([source / "mapped.bin"])
        return serve_runtime(load_prepared(source, num_threads=adoption.num_threads), name, version, options)
    return serve_runtime(load_model(source, num_threads=adoption.num_threads).runtime, name, version, options)
