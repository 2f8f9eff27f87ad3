"""Keeps the process that ships alive beside the scheduler, and knows what it last said."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from fabric.config import FabricConfig
from fabric.shipping.plan import shipped_databases

AGAIN_S = (1.0, 5.0, 30.0, 60.0)
"""Each start ships a whole copy: one that dies at once again and again is not to fill the line with those."""
WELL_S = 300.0
_log = logging.getLogger(__name__)


def settings_of(config: FabricConfig, epoch: int) -> dict[str, Any]:
    """What the process is told."""
    return {
        "databases": {database.name: str(database.file) for database in shipped_databases(config)},
        "storage_url": config.storage,
        "fabric": config.name,
        "epoch": epoch,
        "id": uuid.uuid4().hex,
        "interval_s": config.shipping.interval_s,
    }


class Keeper:
    """`start` is all that there is to do; where nothing is to be shipped it does nothing."""

    def __init__(self, config: FabricConfig, epoch: int) -> None:
        self._settings = settings_of(config, epoch)
        self._status: dict[str, Any] = {}
        self._heard_s = 0.0
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._loop, name="shipping", daemon=True)

    def start(self) -> None:
        if self._settings["databases"]:
            self._thread.start()

    def status(self) -> Mapping[str, Any] | None:
        """None: nothing is shipped. Else the store, since how many seconds nothing was heard (more than some: the process hangs or is
        being started), and each database's `ShipStatus` of then."""
        if not self._settings["databases"]:
            return None
        silent_s = time.monotonic() - self._heard_s if self._heard_s else None
        return {"storage_url": self._settings["storage_url"], "silent_s": silent_s, "databases": dict(self._status)}

    def close(self, timeout_s: float = 10.0) -> None:
        """Let it ship what is left, and end."""
        self._closed.set()
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _loop(self) -> None:
        num_short = 0
        while not self._closed.is_set():
            began_s = time.monotonic()
            self._once()
            num_short = 0 if time.monotonic() - began_s > WELL_S else num_short + 1
            if not self._closed.is_set():
                pause_s = AGAIN_S[min(num_short, len(AGAIN_S)) - 1] if num_short else AGAIN_S[0]
                _log.warning("the process that ships the journal ended; a new one starts in %.0f s", pause_s)
                self._closed.wait(pause_s)

    def _once(self) -> None:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "fabric.shipping.process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            _log.warning("the process that ships the journal does not start: %s", error)
            return
        self._process = process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(self._settings) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                self._status, self._heard_s = json.loads(line), time.monotonic()
        except (OSError, ValueError) as error:
            _log.warning("the process that ships the journal: %s", error)
        process.wait()
