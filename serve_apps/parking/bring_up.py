"""interim"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import orjson

from serve_apps.parking.messages import Adoption
from serve_apps.parking.page_cache import read_ahead


@dataclass
class BroughtUp:
    app: Any
    close: Callable[[], Awaitable[None]]
    took_ms: dict[str, float]


async def bring_up(adoption: Adoption) -> BroughtUp:
    import onnxruntime as ort

    began = time.perf_counter()
    folder = Path(adoption.source)
    read_ahead([folder / "mapped.bin"])
    o = ort.SessionOptions()
    o.intra_op_num_threads = adoption.num_threads
    o.inter_op_num_threads = 1
    o.add_session_config_entry("session.intra_op.allow_spinning", "0")
    o.add_session_config_entry("session.disable_prepacking", "1")
    s = ort.InferenceSession(str(folder / "mapped.onnx"), o, providers=["CPUExecutionProvider"])
    took = {"load": (time.perf_counter() - began) * 1e3}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            m = await receive()
            body += m.get("body", b"")
            if not m.get("more_body"):
                break
        x = numpy.asarray(orjson.loads(body)["inputs"][0]["data"], "float32").reshape(1, -1)
        y = (await asyncio.get_running_loop().run_in_executor(None, lambda: s.run(None, {"x": x})))[0]
        out = orjson.dumps({"outputs": [{"name": "y", "shape": y.shape, "data": y.ravel()}]}, option=orjson.OPT_SERIALIZE_NUMPY)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(out)).encode())]})
        await send({"type": "http.response.body", "body": out})

    async def close() -> None:
        pass

    return BroughtUp(app, close, took)
