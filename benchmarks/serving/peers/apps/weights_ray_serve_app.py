"""A large ONNX file on plain Ray Serve, as its documentation loads one: `weights_ray_serve_app.py HTTP_PORT GRPC_PORT MODEL REPLICAS`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, logging_config={"enable_access_log": False})
class Big:
    def __init__(self, model: str) -> None:
        import numpy
        import onnxruntime

        self._numpy = numpy
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._run([[0.5] * 4096])

    async def __call__(self, request: Request) -> Any:
        if request.method == "GET":
            return "ready"
        (tensor,) = (await request.json())["inputs"]
        return {"y": self._run([tensor["data"]])}

    def _run(self, rows: list[list[float]]) -> Any:
        return self._session.run(None, {"x": self._numpy.array(rows, self._numpy.float32)})[0].tolist()


def main() -> None:
    http_port, _grpc_port, model, num = sys.argv[1:5]
    # The sockets in this folder have paths of at most 107 characters.
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=str(Path.cwd() / "ray"))
    serve.start(http_options={"host": "127.0.0.1", "port": int(http_port)})
    serve.run(Big.options(num_replicas=int(num)).bind(model), name="big", route_prefix="/big")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
