"""An application of plain Ray Serve: a model file behind `POST /`. It needs Ray and tierfabric's model loader, no running fabric."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ray import serve
from starlette.requests import Request

from serve_apps import load_model


@serve.deployment
class ModelFile:
    """`path`: any format that tierfabric serves; the file is on the volume that every pod has."""

    def __init__(self, path: str) -> None:
        self._model = load_model(path)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """`{"inputs": {name: nested lists}}` in, the same of every output out."""
        asked = await request.json()
        outputs = await asyncio.to_thread(self._model.infer, asked["inputs"])
        return {"outputs": {name: values.tolist() for name, values in outputs.items()}}


app = ModelFile.bind(os.environ.get("MODEL_FILE", "/mnt/tierfabric/model"))  # type: ignore[attr-defined]
