"""The echo, or an ONNX file, on a twin of one's own: `ours_app.py HTTP_PORT GRPC_PORT [ONNX_FILE]`. Runs until it is terminated."""

from __future__ import annotations

import os
import signal
import sys

import numpy

import fabric
from serve_apps import ModelService
from serve_apps.model_file import deploy_file


class Echo(ModelService):
    def predict(self, x: numpy.ndarray) -> numpy.ndarray:  # type: ignore[type-arg]
        return x


def main() -> None:
    http_port, grpc_port = sys.argv[1:3]
    os.environ.update({"FABRIC_SERVING__PORT": http_port, "FABRIC_SERVING__GRPC_PORT": grpc_port})
    fabric.connect()
    if len(sys.argv) > 3:
        deploy_file(sys.argv[3], name="echo", tier="cold", say=print)
    else:
        Echo().deploy(name="echo", tier="cold")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
