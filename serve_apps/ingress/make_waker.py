"""Puts an ingress's waker together: what may be adopted, the lot of parked processes, and Serve."""

from __future__ import annotations

import functools
import os
import sys

from fabric.config import FabricConfig
from serve_apps.ingress.access import Access
from serve_apps.ingress.adoptions import Adoptions
from serve_apps.ingress.settings import IngressSettings
from serve_apps.ingress.waker import IngressWaker
from serve_apps.parking.lot import ParkingLot
from serve_apps.parking.rules import Rules
from serve_apps.ray_directory import RayDirectory
from serve_apps.serve_port import wake

DEFAULT_PARKED = 1


def make_waker(config: FabricConfig, settings: IngressSettings, access: Access) -> IngressWaker:
    """In the ingress's own process."""
    directory = RayDirectory()
    adoptions = Adoptions(config, access, is_open=settings.is_open, record_of=directory.deployment)
    num_parked = DEFAULT_PARKED if config.serving.parked is None else config.serving.parked
    if sys.platform != "linux":  # elsewhere nothing ends a child with its parent: Serve alone wakes
        num_parked = 0
    num_cpus = os.cpu_count() or 1
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    rules = Rules(num_cpus=num_cpus, max_parked=min(num_parked, num_cpus))
    make_lot = functools.partial(ParkingLot, log_file=settings.folder / "parked.log", rules=rules) if num_parked else None
    return IngressWaker(adoptions, access, directory, wake, make_lot)
