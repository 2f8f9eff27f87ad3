"""Checks: gRPC: the six required calls, and every datatype in typed and in raw contents."""

from __future__ import annotations

import functools

from serve_apps.oip.conformance.asking import judge, read_response, rpc_request
from serve_apps.oip.conformance.check import RECOMMENDED, Group, Skipped, expect
from serve_apps.oip.conformance.rpc import shown
from serve_apps.oip.conformance.target import Target
from serve_apps.oip.conformance.values import CONTENTS, WIDTHS, filled

RPC = Group("grpc", "GRPC: the protocol's service")
RPC_DATATYPES = Group("grpc", "GRPC: InferTensorContents")


@RPC.check("server_live")
def server_live(target: Target) -> None:
    """ServerLive says true"""
    expect(target.grpc().call("ServerLive").live is True, "live: true", "false")


@RPC.check("server_ready")
def server_ready(target: Target) -> None:
    """ServerReady says true"""
    expect(target.grpc().call("ServerReady").ready is True, "ready: true", "false")


@RPC.check("model_ready")
def model_ready(target: Target) -> None:
    """ModelReady says true of a model that serves"""
    rpc = target.grpc()
    expect(rpc.call("ModelReady", {"name": target.any_model().name}).ready is True, "ready: true", "false")


@RPC.check("server_metadata")
def server_metadata(target: Target) -> None:
    """ServerMetadata gives the name and version that REST gives"""
    answer = target.grpc().call("ServerMetadata")
    document = target.rest.get("/v2").json()
    expect((answer.name, answer.version) == (document.get("name"), document.get("version")), "the name and version of REST", shown(answer))
    expect(bool(answer.name), "a name", shown(answer))


@RPC.check("model_metadata")
def model_metadata(target: Target) -> None:
    """ModelMetadata gives the signature that REST gives"""
    rpc, model = target.grpc(), target.any_model()
    answer = rpc.call("ModelMetadata", {"name": model.name})
    for given, known in ((answer.inputs, model.inputs), (answer.outputs, model.outputs)):
        found = [(each.name, each.datatype, tuple(each.shape)) for each in given]
        expect(found == [(each.name, each.datatype, each.shape) for each in known], repr(known), repr(found))
    expect(answer.name == model.name, f"the name {model.name!r}", repr(answer.name))


@RPC.check("id_and_version")
def id_and_version(target: Target) -> None:
    """ModelInfer returns the id; a version can be asked for, and is named"""
    rpc, model = target.grpc(), target.any_model()
    wanted = model.versions[-1] if model.versions else ""
    answer = rpc.call("ModelInfer", message=rpc_request(model, model.samples(target.size), is_raw=True, id="g-7", model_version=wanted))
    expect(answer.id == "g-7", "id 'g-7'", repr(answer.id))
    expect(answer.model_name == model.name, f"model_name {model.name!r}", repr(answer.model_name))
    expect(not wanted or answer.model_version == wanted, f"model_version {wanted!r}", repr(answer.model_version))


@RPC.check("id_beyond_ascii", level=RECOMMENDED)
def id_beyond_ascii(target: Target) -> None:
    """An id of any text comes back"""
    rpc, model = target.grpc(), target.any_model()
    answer = rpc.call("ModelInfer", message=rpc_request(model, model.samples(target.size), is_raw=True, id="é€"))
    expect(answer.id == "é€", "id 'é€'", repr(answer.id))


@RPC.check("raw_without_contents", level=RECOMMENDED)
def raw_without_contents(target: Target) -> None:
    """Outputs in raw contents have no member contents, not even an empty one"""
    rpc, model = target.grpc(), target.any_model()
    answer = rpc.call("ModelInfer", message=rpc_request(model, model.samples(target.size), is_raw=True))
    if not answer.raw_output_contents:
        raise Skipped("the server answers with typed contents")
    expect(not any(each.HasField("contents") for each in answer.outputs), "no member contents", shown(answer))


@RPC.check("requested_outputs")
def requested_outputs(target: Target) -> None:
    """Only the outputs that are asked for come back"""
    rpc = target.grpc()
    try:
        model = target.model_where("has two outputs", lambda each: len(each.outputs) > 1)
    except Skipped:
        model = target.any_model()
    for output in model.outputs:
        request = rpc_request(model, model.samples(target.size), is_raw=True)
        request.outputs.add(name=output.name)
        judge(model, read_response(rpc.call("ModelInfer", message=request)), model.samples(target.size), names=[output.name])


@RPC.check("parameters")
def parameters(target: Target) -> None:
    """Parameters of each kind are taken"""
    rpc, model = target.grpc(), target.any_model()
    request = rpc_request(model, model.samples(target.size), is_raw=True)
    request.parameters["a"].string_param = "x"
    request.parameters["b"].int64_param = 7
    request.parameters["c"].bool_param = True
    judge(model, read_response(rpc.call("ModelInfer", message=request)), model.samples(target.size))


def every_datatype(target: Target, *, datatype: str, is_raw: bool) -> None:
    rpc, model = target.grpc(), target.model_of(datatype)
    if not is_raw and any(each.datatype not in CONTENTS for each in model.inputs):
        raise Skipped(f"the model that takes {datatype} has inputs without typed contents")
    request = rpc_request(model, model.samples(target.size), is_raw=is_raw)
    judge(model, read_response(rpc.call("ModelInfer", message=request)), model.samples(target.size))


for _datatype in WIDTHS:
    for _form in ("typed", "raw"):
        if _form == "raw" or _datatype in CONTENTS:
            RPC_DATATYPES.add(
                f"{_datatype.lower()}_{_form}",
                f"{_datatype} in {_form} contents; an identity gives back the ends of its range",
                functools.partial(every_datatype, datatype=_datatype, is_raw=_form == "raw"),
            )


@RPC_DATATYPES.check("bytes_not_text")
def bytes_not_text(target: Target) -> None:
    """BYTES that are no text go through an identity, typed and raw"""
    rpc = target.grpc()
    model = target.model_where(
        "is an identity of BYTES", lambda each: each.is_identity and {one.datatype for one in each.inputs} == {"BYTES"}
    )
    sent = {each.name: filled("BYTES", each.sample(target.size, at_edges=True).shape, [b"\xff\x00\xfe", b""]) for each in model.inputs}
    for is_raw in (True, False):
        judge(model, read_response(rpc.call("ModelInfer", message=rpc_request(model, sent, is_raw=is_raw))), sent)
