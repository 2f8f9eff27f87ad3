"""The actor `console`: one per fabric, beside the journal on the head. It listens at once and reads everything else in behind that.

Nothing here is on the way of a job: it runs at a low priority, loads its modules in a thread, and may be ended at any time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from fabric import ray_io
from fabric.api.address import write_address
from fabric.config import FabricConfig
from fabric.console.address import CONSOLE_FILE, last_port
from fabric.errors import ConfigError, FabricError
from fabric.types import Flavor

ACTOR = "console"
SERIES_FILE = "console-series.json"
NICENESS = 10
RETRY_S = 1.0
SCHEDULER = "scheduler"
GIVE_WAY_S = 10.0
_log = logging.getLogger(__name__)


class ConsoleShell:
    """Undecorated actor class."""

    def __init__(self, config: FabricConfig, catalogue: Mapping[str, Flavor]) -> None:
        os.nice(NICENESS)
        self._config, self._catalogue = config, catalogue
        self._url: str | None = None
        self._problem: str | None = None
        self._is_listening = threading.Event()
        threading.Thread(target=self._serve, name="console", daemon=True).start()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return ACTOR

    def ping(self) -> str:
        return ACTOR

    def address(self, wait_s: float = 0.0) -> Mapping[str, Any]:
        """`{url, problem}`: null where it does not listen after `wait_s`; why it does not show anything, if so."""
        self._is_listening.wait(wait_s)
        return {"url": self._url, "problem": self._problem}

    def _serve(self) -> None:
        """Where something is in the way (a port that is taken, a journal that cannot be read), it is tried again."""
        pause, listening = threading.Event(), None
        self._let_the_scheduler_come()
        while True:
            try:
                if listening is None:
                    listening = self._listen()
                self._start(listening)
                self._problem = None
                return
            except FabricError as error:
                self._problem = error.message
            except Exception as error:
                _log.exception("the console did not start")
                self._problem = f"{type(error).__name__}: {error}"
            _log.warning("console problem=%r", self._problem)
            pause.wait(RETRY_S)

    @staticmethod
    def _let_the_scheduler_come() -> None:
        """Where a head comes back, all of the fabric does at once, and jobs wait for the scheduler."""
        with suppress(FabricError):
            ray_io.ask(ray_io.actor(SCHEDULER).ping.remote(), timeout_s=GIVE_WAY_S)

    def _listen(self) -> Any:
        from fabric.api.serve import listening_at, url_of

        settings, file = self._config.console, self._config.state_path / CONSOLE_FILE
        try:
            # Where it was before: pages that are open come back by themselves.
            listening = listening_at(settings.host, settings.port or last_port(file), setting="console.port")
        except ConfigError:
            if settings.port:
                raise
            listening = listening_at(settings.host, 0)
        self._url = url_of(settings.host, listening.getsockname()[1])
        write_address(file, self._url)
        self._is_listening.set()
        return listening

    def _start(self, listening: Any) -> None:
        from fabric import __version__
        from fabric.api.address import ADDRESS_FILE, read_address
        from fabric.api.serve import ApiServer
        from fabric.console.app import create_console
        from fabric.console.fabric_sources import OwnApi, RayPools
        from fabric.console.hand_on import HttpDoor
        from fabric.journal import Journal
        from fabric.routing import RoutingPolicy

        config = self._config
        console = create_console(
            Journal(config.database_url, is_reader=True),
            pools=RayPools(config.tier_names),
            api=OwnApi(config),
            door=HttpDoor(partial(read_address, config.state_path / ADDRESS_FILE)),
            catalogue=self._catalogue,
            tiers=config.tier_names,
            name=config.name,
            version=__version__,
            host=config.console.host,
            hosts=config.console.hosts,
            routing=RoutingPolicy(config.routing.waiting_usd_per_h),
            series_file=config.state_path / SERIES_FILE,
        )
        ApiServer(console.app, host=config.console.host, listening=listening).start()
        console.follower.start()
