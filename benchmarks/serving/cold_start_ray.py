"""The peer of the cold start: a plain Ray Serve deployment of the same file with `min_replicas=0`, asked when it has no replica.

`python cold_start_ray.py MODEL ROUNDS` prints the milliseconds of each round as JSON. All of Serve's delays are as short as it allows.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import urllib.request
from typing import Any

import numpy
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request

WIDTH = 4096


class Big:
    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> Any:
        x = numpy.asarray((await request.json())["x"], numpy.float32)
        return self._session.run(None, {"x": x})[0].tolist()


def main(path: str, num_rounds: int) -> None:
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    scaling = {
        "min_replicas": 0, "initial_replicas": 0, "max_replicas": 1, "upscale_delay_s": 0, "downscale_delay_s": 0.5,
        "downscale_to_zero_delay_s": 0.5, "metrics_interval_s": 0.1, "look_back_period_s": 0.2,
    }  # fmt: skip
    deployed = serve.deployment(name="big", autoscaling_config=scaling, ray_actor_options={"num_cpus": 1})(Big)
    serve.run(deployed.bind(path), name="big", route_prefix="/big", logging_config={"log_level": "ERROR"})
    body = json.dumps({"x": [[0.5] * WIDTH]}).encode()
    took_ms = []
    for _ in range(num_rounds):
        until_zero()
        started_s = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000/big", body), timeout=120) as answer:
            answer.read()
        took_ms.append(1e3 * (time.perf_counter() - started_s))
    print(json.dumps(took_ms), flush=True)
    serve.shutdown()
    ray.shutdown()


def until_zero() -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        states = serve.status().applications["big"].deployments["big"].replica_states
        if not sum(states.values()):
            return
        time.sleep(0.1)
    raise SystemExit("Ray Serve does not come down to zero")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
