"""Keeps a replica in the directory: says that it is there every `BEAT_S`, takes over what the answer brings, and says good-bye."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fabric.errors import FabricError
from serve_apps.directory.core import BEAT_S
from serve_apps.directory.records import ReplicaReport
from serve_apps.directory.requests import BeatAnswer
from serve_apps.ingress.access import Access
from serve_apps.replica_settings import DirectoryPort

log = logging.getLogger("ray.serve")

_AGAIN_S = 0.5


class Beats:
    """A thread from `start` to `stop`. `report()` is asked each time; `heed` gets each answer; `also()` is run after each, and may take
    its time."""

    def __init__(
        self,
        directory: DirectoryPort,
        report: Callable[[], ReplicaReport],
        access: Access,
        also: Callable[[], None],
        heed: Callable[[BeatAnswer], None] = lambda answer: None,
    ) -> None:
        self._directory, self._report, self._access, self._also, self._heed = directory, report, access, also, heed
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="beats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No requests are sent here any more once this has returned, but for those of an ingress that has not heard yet."""
        self._stopped.set()
        self._thread.join(timeout=5)
        try:
            self._directory.leave(self._report().id)
        except FabricError as error:
            log.warning("cannot say good-bye: %s", error)

    def _loop(self) -> None:
        while True:
            wait_s = BEAT_S
            try:
                answer = self._directory.beat(self._report(), self._access.mark)
                if answer.tokens is not None:
                    self._access.replace(answer.tokens_mark, answer.tokens)
                self._heed(answer)
                wait_s = answer.beat_s or BEAT_S
            except FabricError as error:
                # It may be restarting: it must hear of this replica soon.
                log.warning("the directory is away: %s", error)
                wait_s = _AGAIN_S
            try:
                self._also()
            except (FabricError, OSError) as error:
                log.warning("usage lines wait: %s", error)
            if self._stopped.wait(wait_s):
                return
