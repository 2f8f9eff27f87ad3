"""Checks: Triton's extensions over gRPC: the stream of requests, statistics, the repository's index."""

from __future__ import annotations

from typing import Any

from serve_apps.oip.conformance.asking import judge, read_response, rpc_request
from serve_apps.oip.conformance.check import RECOMMENDED, Group, Skipped, expect, extension
from serve_apps.oip.conformance.messages import CLASSES
from serve_apps.oip.conformance.rpc import Refused, shown
from serve_apps.oip.conformance.rpc_errors import broken
from serve_apps.oip.conformance.target import Target

RPC_STREAM = Group("grpc_stream", "Triton: ModelStreamInfer", level=RECOMMENDED)
RPC_EXTENSIONS = Group("grpc_extensions", "Statistics and Model Repository Extension: GRPC")


def streaming(target: Target) -> Any:
    """Raises: `Skipped` where the server has no ModelStreamInfer, as the protocol allows."""
    rpc, model = target.grpc(), target.any_model()
    try:
        rpc.stream([rpc_request(model, model.samples(target.size), is_raw=True)])
    except Refused as refused:
        if refused.code == "UNIMPLEMENTED":
            raise Skipped("the server does not implement ModelStreamInfer") from None
        raise
    return rpc


@RPC_STREAM.check("answers")
def stream_answers(target: Target) -> None:
    """Each request of a stream is answered, with its id"""
    rpc, model = streaming(target), target.any_model()
    answers = rpc.stream([rpc_request(model, model.samples(target.size), is_raw=True, id=str(place)) for place in range(5)])
    expect(not any(each.error_message for each in answers), "no error", repr([each.error_message for each in answers]))
    found = sorted(each.infer_response.id for each in answers)
    expect(found == [str(place) for place in range(5)], "the ids 0 to 4", repr(found))
    for each in answers:
        judge(model, read_response(each.infer_response), model.samples(target.size))


@RPC_STREAM.check("error_inside")
def stream_error(target: Target) -> None:
    """A wrong request of a stream gets an error_message, and the stream goes on"""
    rpc, model = streaming(target), target.any_model()
    good = rpc_request(model, model.samples(target.size), is_raw=True, id="good")
    answers = rpc.stream([broken(target, "truncated"), good])
    expect(any(each.error_message for each in answers), "an error_message", repr([shown(each) for each in answers]))
    expect(
        any(each.infer_response.id == "good" for each in answers),
        "the answer to the request after it",
        repr([shown(each) for each in answers]),
    )


@RPC_EXTENSIONS.check("statistics", level=extension("statistics"))
def statistics(target: Target) -> None:
    """ModelStatistics counts the requests that succeed"""
    rpc, model = target.grpc(), target.any_model()

    def counted() -> int:
        stats = rpc.call("ModelStatistics", {"name": model.name}).model_stats
        return sum(each.inference_stats.success.count for each in stats if each.name == model.name)

    before = counted()
    rpc.call("ModelInfer", message=rpc_request(model, model.samples(target.size), is_raw=True))
    expect(counted() == before + 1, f"{before + 1} after one request more", f"{counted()}")


@RPC_EXTENSIONS.check("repository_index", level=extension("model_repository"))
def repository_index(target: Target) -> None:
    """RepositoryIndex lists the models that REST lists"""
    found = {each.name for each in target.grpc().call("RepositoryIndex").models}
    listed = {each["name"] for each in target.rest.post("/v2/repository/index", {}).json()}
    expect(found == listed, repr(sorted(listed)), repr(sorted(found)))


@RPC_EXTENSIONS.check("unknown_fields", level=RECOMMENDED, section="GRPC: Protocol Buffers")
def unknown_fields(target: Target) -> None:
    """A field that the server does not know, of a later version of the protocol, is ignored"""
    rpc, model = target.grpc(), target.any_model()
    wire = rpc_request(model, model.samples(target.size), is_raw=True).SerializeToString() + b"\xfa\x3e\x03new"  # field 1007, text
    judge(model, read_response(rpc.call("ModelInfer", message=CLASSES["ModelInferRequest"].FromString(wire))), model.samples(target.size))
