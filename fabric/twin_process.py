"""The twin's own process: `python -m fabric.twin_process SPEC` starts the nodes, says so, waits for the end, stops them.

It ends on SIGTERM, and where `connect()` started it also when its parent goes away (its standard input closes). It imports
nothing of the fabric but Ray's cluster: how soon a twin is up hangs on it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster


def serve(spec: Mapping[str, Any]) -> None:
    """`spec`: `nodes` (arguments of `Cluster.add_node`, the head's first), `state` (the file to write), `is_owned`."""
    head, *others = spec["nodes"]
    cluster = Cluster(initialize_head=True, head_node_args=head)
    # Each of Ray's nodes installs a SIGTERM handler of its own, which would drain for 30 s: take the signal back.
    signal.signal(signal.SIGTERM, _end)
    # Whoever started the twin connects to its head while the other nodes start.
    _say(Path(spec["state"]), cluster, len(spec["nodes"]))
    try:
        for node in others:
            cluster.add_node(wait=False, **node)
            signal.signal(signal.SIGTERM, _end)
        while True:
            if not spec["is_owned"]:
                signal.pause()
            elif select.select([sys.stdin], [], [], 60.0)[0] and not sys.stdin.buffer.read(1):
                break
    except SystemExit:
        pass
    finally:
        Path(spec["state"]).unlink(missing_ok=True)
        cluster.shutdown()


def _say(file: Path, cluster: Cluster, num_nodes: int) -> None:
    """Write `fabric.twin.TwinState`, all of it or nothing."""
    state = {
        "pid": os.getpid(),
        "address": cluster.address,
        "started_s": time.time(),
        "dashboard": cluster.webui_url or "",
        "num_nodes": num_nodes,
    }
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(state), encoding="utf-8")
    partial.replace(file)


def _end(_signal: int, _frame: Any) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
