"""One replica in a process of its own: `live_replica.py HOST PORT KEY ID`, its settings pickled on standard input.

Ends with 3 where the model's constructor raises, as a replica that Serve would report.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import signal
import sys
import threading
import traceback

from live_world import Directories

from serve_apps.replica import Replica


def main() -> None:
    host, port, key, replica_id = sys.argv[1:]
    settings = pickle.load(sys.stdin.buffer)
    Directories.register("directory")
    manager = Directories((host, int(port)), bytes.fromhex(key))
    manager.connect()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    try:
        replica = Replica(settings, manager.directory(), lambda: (replica_id, "node", "127.0.0.1"))  # type: ignore[attr-defined]
    except Exception:
        traceback.print_exc()
        sys.exit(3)
    over.wait()
    with contextlib.suppress(Exception):
        asyncio.run(replica.__del__())


if __name__ == "__main__":
    main()
