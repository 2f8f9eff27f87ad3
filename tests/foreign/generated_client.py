"""The clients that are generated from the specification itself, `open-inference-openapi` and `open-inference-grpc`.

Usage: python generated_client.py URL HOST:PORT|- [TOKEN]. Ends with an AssertionError, or prints how many things held.
"""

from __future__ import annotations

import sys

import grpc
import httpx
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceStub
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.types import InferenceRequest, RequestInput, TensorData

held: list[str] = []


def holds(what: str, is_so: object) -> None:
    assert is_so, what
    held.append(what)


def over_rest(url: str, headers: dict[str, str]) -> None:
    client = OpenInferenceClient(base_url=url, httpx_client=httpx.Client(headers=headers, timeout=30))
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness("add")
    client.check_model_version_readiness("add", "1")
    holds("server metadata", client.read_server_metadata().name)
    holds("model metadata", [each.name for each in client.read_model_metadata("add").inputs] == ["a", "b"])
    for data in ([1.5, -2.5], [[1.5, -2.5]]):
        tensor = RequestInput(name="INPUT0", shape=[1, 2], datatype="FP32", data=TensorData.parse_obj(data))
        answer = client.model_infer("identity_fp32", request=InferenceRequest(id="7", inputs=[tensor]))
        holds("infer", answer.id == "7" and answer.outputs[0].name == "OUTPUT0")
        answer = client.model_version_infer("identity_fp32", "1", request=InferenceRequest(id="8", inputs=[tensor]))
        holds("infer of a version", answer.model_version == "1")


def over_grpc(address: str, metadata: list[tuple[str, str]]) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        holds("gRPC live", stub.ServerLive(protocol.ServerLiveRequest(), metadata=metadata).live)
        holds("gRPC ready", stub.ModelReady(protocol.ModelReadyRequest(name="add"), metadata=metadata).ready)
        holds("gRPC server metadata", stub.ServerMetadata(protocol.ServerMetadataRequest(), metadata=metadata).name)
        answer = stub.ModelMetadata(protocol.ModelMetadataRequest(name="add"), metadata=metadata)
        holds("gRPC model metadata", [each.name for each in answer.inputs] == ["a", "b"])
        request = protocol.ModelInferRequest(model_name="identity_fp32", id="7")
        tensor = request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 2])
        tensor.contents.fp32_contents.extend([1.5, -2.5])
        answer = stub.ModelInfer(request, metadata=metadata)
        holds("gRPC infer", answer.id == "7" and list(answer.outputs[0].shape) == [1, 2])


if __name__ == "__main__":
    token = sys.argv[3] if len(sys.argv) > 3 else ""
    over_rest(sys.argv[1], {"Authorization": f"Bearer {token}"} if token else {})
    if sys.argv[2] != "-":
        over_grpc(sys.argv[2], [("authorization", f"Bearer {token}")] if token else [])
    print(f"{len(held)} held")
