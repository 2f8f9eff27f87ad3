"""Makes a process that is being parked do once what its first request will: a model of two weights, asked over HTTP.

A fork copies memory but not page tables, and the first run of anything (onnxruntime's kernel registry, the threads, the codecs) costs
milliseconds. Nothing of the model stays.
"""

from __future__ import annotations

import http.client
import struct

import onnxruntime

from fabric.errors import BugError
from serve_apps.execution.build import serve_runtime
from serve_apps.execution.served import Served
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from serve_apps.parking.door import Door
from serve_apps.runtimes.onnx import OnnxRuntime, session_options
from serve_apps.server import Server

_NAME = "warm-up"
_NUM_ROUNDS = 3
_ONNX = bytes.fromhex(
    "080812003a5f0a110a01780a017712017922064d61744d756c1201772a1b0802080210014201774a100000803f00000000000000000000803f5a140a0178120f0a0d080112090a031201620a02080262140a0179120f0a0d080112090a031201620a02080242040a001011"
)
"""`y = x @ eye(2)` over float32[batch, 2], opset 17, as `onnx.helper` writes it."""
_JSON = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.0,2.0]}]}'
_HEAD = (
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
    b'"parameters":{"binary_data_output":true}}'
)


def run(server: Server, door: Door) -> None:
    """From any thread but the server's. Raises: OSError, FabricError where this process would be of no use."""
    served = server.run(_open(door)).result()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        for _ in range(_NUM_ROUNDS):
            _ask(connection, _JSON, {"Content-Type": "application/json"})
            _ask(connection, _HEAD + struct.pack("<2f", 1, 2), {"Inference-Header-Content-Length": str(len(_HEAD))})
    finally:
        connection.close()
        server.run(_shut(door, served)).result()


async def _open(door: Door) -> Served:
    session = onnxruntime.InferenceSession(_ONNX, session_options(num_threads=1), providers=["CPUExecutionProvider"])
    served = serve_runtime(OnnxRuntime(session), _NAME, "1")
    plane = DataPlane()
    plane.add(served)
    door.open(RestApp(plane))
    return served


async def _shut(door: Door, served: Served) -> None:
    door.close()
    await served.close()


def _ask(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> None:
    connection.request("POST", f"/v2/models/{_NAME}/infer", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise BugError("the warm-up of a parked process failed", status=answer.status, content=content[:200].decode(errors="replace"))
