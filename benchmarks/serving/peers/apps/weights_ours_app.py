"""A large ONNX file on a twin of one's own: `weights_ours_app.py HTTP_PORT GRPC_PORT MODEL REPLICAS`. Runs until it is terminated."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import fabric


def main() -> None:
    http_port, grpc_port, model, num = sys.argv[1:5]
    os.environ.update({"FABRIC_SERVING__PORT": http_port, "FABRIC_SERVING__GRPC_PORT": grpc_port})
    fabric.connect()
    from serve_apps.model_file import deploy_file

    deploy_file(Path(model), name="big", tier="cold", replicas=int(num), timeout_s=170, say=lambda line: print(line, file=sys.stderr))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
