"""The whole fabric for the cold start: `python cold_start_fabric.py PORT MODEL` deploys the file with `min` 0 on a twin of its own.

Says `deployed` when it answers, and runs until it is terminated.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from cold_start_world import NAME

import fabric
from serve_apps.model_file import autoscale_of, deploy_file

IDLE_S = 0.5
"""Without requests for so long the model leaves: the benchmark shall not wait."""


def main() -> None:
    port, model = sys.argv[1:]
    os.environ.update({"FABRIC_SERVING__PORT": port, "FABRIC_SERVING__GRPC_PORT": str(int(port) + 1)})
    fabric.connect()
    scale = autoscale_of(least=0, most=1, metric=None, target=None, idle_s=IDLE_S)
    deploy_file(Path(model), name=NAME, tier="cold", autoscale=scale, say=lambda line: print(line, file=sys.stderr))
    print("deployed", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
