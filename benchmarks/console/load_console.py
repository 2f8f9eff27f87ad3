"""The console over the scheduler of `load_scheduler.py`, as its actor runs it: a process of its own at a low priority.

Reads a line from stdin and answers with the seconds of CPU that it has used so far, and how many pages are open.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.console.made_history import History, machines
from benchmarks.console.world import MadePools
from fabric import __version__
from fabric.api.address import ADDRESS_FILE, read_address
from fabric.api.serve import ApiServer
from fabric.config import FabricConfig
from fabric.console.app import create_console
from fabric.console.fabric_sources import OwnApi
from fabric.console.hand_on import HttpDoor
from fabric.console.shell import NICENESS
from fabric.journal import Journal
from fabric.types import DEFAULT_TIERS
from pools.flavors import load_catalogue


def main() -> None:
    os.nice(NICENESS)
    folder, num_nodes = Path(sys.argv[1]), int(sys.argv[2])
    catalogue = load_catalogue({}, tiers=DEFAULT_TIERS)
    journal = Journal(f"sqlite:///{folder / 'journal.db'}")
    console = create_console(
        journal,
        pools=MadePools(History(*machines(catalogue, num_nodes)), 1),
        api=OwnApi(FabricConfig(state_dir=folder)),
        door=HttpDoor(partial(read_address, folder / ADDRESS_FILE)),
        catalogue=catalogue,
        tiers=DEFAULT_TIERS,
        name="load",
        version=__version__,
    )
    print(json.dumps({"url": ApiServer(console.app).start()}), flush=True)
    console.follower.start()
    for _ in sys.stdin:
        told = {"cpu_s": time.process_time(), "pages": console.events.num_readers, "problem": console.follower.problem}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
