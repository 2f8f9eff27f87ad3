"""MLServer 1.7, the inference in the server's own process (`parallel_workers` 0), which is its quickest for a small model."""

from __future__ import annotations

import json

from peers.recipe import Command, Place

_MODEL = """
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput

class Echo(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        x = payload.inputs[0]
        y = ResponseOutput(name="y", shape=x.shape, datatype=x.datatype, data=x.data)
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[y])
"""


class MlServer:
    name = "mlserver"
    requirements = ("mlserver==1.7.1",)

    def command(self, place: Place) -> Command:
        settings = {
            "host": "127.0.0.1",
            "http_port": place.http_port,
            "grpc_port": place.grpc_port,
            "metrics_port": place.metrics_port,
            "parallel_workers": 0,
            "debug": False,
            "gzip_enabled": False,
        }
        (place.workdir / "settings.json").write_text(json.dumps(settings))
        (place.workdir / "model-settings.json").write_text(json.dumps({"name": "echo", "implementation": "echo_model.Echo"}))
        (place.workdir / "echo_model.py").write_text(_MODEL)
        argv = (str(place.python.with_name("mlserver")), "start", ".")
        env = {"PYTHONPATH": str(place.workdir)}
        return Command(argv, "/v2/models/echo/infer", env=env, ready_path="/v2/models/echo/ready", with_grpc=True)
