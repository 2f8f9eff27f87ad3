"""The echo, or an ONNX file, on a twin of one's own: `ours_app.py HTTP_PORT GRPC_PORT [ONNX_FILE]`. Runs until it is terminated."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy

import fabric
from serve_apps import ModelService


class Echo(ModelService):
    def predict(self, x: numpy.ndarray) -> numpy.ndarray:  # type: ignore[type-arg]
        return x


def main() -> None:
    http_port, grpc_port = sys.argv[1:3]
    os.environ.update({"FABRIC_SERVING__PORT": http_port, "FABRIC_SERVING__GRPC_PORT": grpc_port})
    fabric.connect()
    if len(sys.argv) > 3:
        _deploy_file(Path(sys.argv[3]))
    else:
        Echo().deploy(name="echo", tier="cold")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


def _deploy_file(path: Path) -> None:
    from serve_apps import deployment
    from serve_apps.model_service import plan_deploy

    deployment.deploy_file(path, plan_deploy(Echo, name="echo", tier="cold"), lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    main()
