"""The process that ships: started by the scheduler's actor, ends with it, says once a second how far it is.

A process of its own, since closing a file drops all locks that its process has on it, and since nothing here may take the
interpreter from the scheduler. Settings come as one line of JSON on stdin; when stdin closes, what is left is shipped and it ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError
from fabric.shipping.owner import Claim
from fabric.shipping.places import Places
from fabric.shipping.shipper import Shipper

LAST_S = 5.0
"""What is left when the scheduler ends may take this long."""
TELL_S = 1.0
NICENESS = 5
_log = logging.getLogger(__name__)


class Shipping:
    """All databases of a fabric, by the settings that `keeper.settings_of` makes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        store = ArtefactStore(settings["storage_url"])
        self._claim = Claim(store, settings["fabric"], settings["epoch"], settings["id"])
        self._shippers: dict[str, Shipper] = {}
        for name, file in settings["databases"].items():
            # Not a pool for all: a base of one is not to hold up the other's changes.
            pool = ThreadPoolExecutor(1, f"ship-{name}")
            places = Places(settings["fabric"], name)
            made = Shipper(Path(file), places, store, self._claim, settings["epoch"], pool.submit, interval_s=settings["interval_s"])
            self._shippers[name] = made

    def status(self) -> dict[str, Any]:
        now_s = time.monotonic()
        return {name: shipper.status(now_s) for name, shipper in self._shippers.items()}

    def turn(self, longest_s: float, *, at_once: bool = False) -> None:
        """Let each do what it has to, then wait until there may be more, `longest_s` at most."""
        for shipper in self._shippers.values():
            shipper.turn(time.monotonic(), at_once=at_once)
        next_s = min(shipper.next_s for shipper in self._shippers.values())
        longest_s = min(longest_s, max(0.01, next_s - time.monotonic()))
        futures = [future for shipper in self._shippers.values() if (future := shipper.future) is not None]
        if futures:
            wait(futures, longest_s, FIRST_COMPLETED)
        else:
            threading.Event().wait(longest_s)

    def finish(self, within_s: float = LAST_S) -> bool:
        """Ship what is left; whether all of it is. Then the place is free for whoever comes."""
        until_s = time.monotonic() + within_s
        is_first = True
        while is_first or (time.monotonic() < until_s and not self._is_all_shipped()):
            self.turn(0.02, at_once=is_first)
            is_first = False
        if not self._is_all_shipped() or any(shipper.is_over for shipper in self._shippers.values()):
            return False
        self._claim.hold(is_done=True)
        return True

    def _is_all_shipped(self) -> bool:
        return all(shipper.is_all_shipped for shipper in self._shippers.values())


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s shipping: %(message)s")
    os.nice(NICENESS)
    settings, ended = json.loads(sys.stdin.readline()), threading.Event()
    threading.Thread(target=_until_closed, args=(sys.stdin, ended), daemon=True).start()
    shipping, told_s = Shipping(settings), float("-inf")
    while not ended.is_set():
        shipping.turn(TELL_S)
        if time.monotonic() - told_s >= TELL_S:
            told_s = time.monotonic()
            _tell(shipping.status())
    # A store that does not answer at all: nobody waits for that.
    last = threading.Timer(2 * LAST_S, os._exit, (1,))
    last.daemon = True
    last.start()
    try:
        shipping.finish()
    except FabricError as error:
        _log.warning("the last changes may be missing: %s", error)
    os._exit(0)


def _until_closed(stdin: IO[str], ended: threading.Event) -> None:
    stdin.read()
    ended.set()


def _tell(status: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more: stdin says so, too
        print(json.dumps(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
