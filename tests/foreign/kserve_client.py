"""KServe's REST and gRPC inference clients, JSON and binary. Runs in kserve's own environment.

Usage: python kserve_client.py URL HOST:PORT|- [TOKEN]. Ends with an AssertionError, or prints how many things held.
"""

from __future__ import annotations

import asyncio
import sys

import numpy
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

held: list[str] = []
ARRAYS = {
    "BOOL": numpy.array([[True, False]]),
    "UINT8": numpy.array([[0, 255]], dtype=numpy.uint8),
    "INT32": numpy.array([[-(2**31), 2**31 - 1]], dtype=numpy.int32),
    "INT64": numpy.array([[-(2**63), 2**63 - 1]]),
    "UINT64": numpy.array([[0, 2**64 - 1]], dtype=numpy.uint64),
    "FP32": numpy.array([[0.1, -1.5]], dtype=numpy.float32),
    "FP64": numpy.array([[0.1, 1e308]]),
    "BYTES": numpy.array([["a", "é€"]], dtype=object),
}


def holds(what: str, is_so: object) -> None:
    assert is_so, what
    held.append(what)


def request_of(datatype: str, array, *, is_binary: bool, is_binary_out: bool = False) -> InferRequest:
    tensor = InferInput("INPUT0", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    outputs = [RequestedOutput("OUTPUT0", {"binary_data": True})] if is_binary_out else None
    return InferRequest(f"identity_{datatype.lower()}", [tensor], request_id="7", request_outputs=outputs)


def texts(array) -> list:
    return [each.decode() if isinstance(each, bytes) else each for each in array.reshape(-1).tolist()]


async def over_rest(url: str, headers: dict[str, str]) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    holds("live", await client.is_server_live(url, headers=headers))
    holds("ready", await client.is_server_ready(url, headers=headers))
    holds("model ready", await client.is_model_ready(url, "add", headers=headers))
    for datatype, array in ARRAYS.items():
        for is_in in (False, True):
            for is_out in (False, True):
                request = request_of(datatype, array, is_binary=is_in, is_binary_out=is_out)
                answer = await client.infer(url, request, model_name=request.model_name, headers=headers)
                holds(f"{datatype} binary in {is_in}, out {is_out}", texts(answer.outputs[0].as_numpy()) == texts(array))
                holds("id", answer.id == "7")
    await client.close()


async def over_grpc(address: str, headers: list[tuple[str, str]]) -> None:
    client = InferenceGRPCClient(address)
    holds("gRPC live", await client.is_server_live(headers=headers))
    holds("gRPC ready", await client.is_server_ready(headers=headers))
    holds("gRPC model ready", await client.is_model_ready("add", headers=headers))
    for datatype, array in ARRAYS.items():
        for is_raw in (False, True):
            answer = await client.infer(request_of(datatype, array, is_binary=is_raw), headers=headers)
            holds(f"gRPC {datatype} raw {is_raw}", texts(answer.outputs[0].as_numpy()) == texts(array))
    await client.close()


async def everything(url: str, address: str, token: str) -> None:
    await over_rest(url, {"Authorization": f"Bearer {token}"} if token else {})
    if address != "-":
        await over_grpc(address, [("authorization", f"Bearer {token}")] if token else [])


if __name__ == "__main__":
    asyncio.run(everything(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
    print(f"{len(held)} held")
