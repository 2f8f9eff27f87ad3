"""NVIDIA's HTTP client, synchronous and asyncio, JSON and binary, against the server at URL. Runs in tritonclient's own environment.

Usage: python tritonclient_http.py URL [TOKEN]. Ends with an AssertionError, or prints how many things held.
"""

from __future__ import annotations

import asyncio
import sys

import numpy
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ARRAYS = {
    "BOOL": numpy.array([[True, False, True]]),
    **{name.upper(): numpy.array([[numpy.iinfo(name).min, 1, numpy.iinfo(name).max]], dtype=name)
       for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")},
    "FP16": numpy.array([[0.5, -1.5, 65504]], dtype=numpy.float16),
    "FP32": numpy.array([[0.1, -1.5, 3e38]], dtype=numpy.float32),
    "FP64": numpy.array([[0.1, -1.5, 1e308]]),
    "BYTES": numpy.array([[b"a", b"", "é€😀".encode()]], dtype=object),
}  # fmt: skip

held: list[str] = []


def holds(what: str, is_so: object) -> None:
    assert is_so, what
    held.append(what)


def inputs_of(library, array, *, is_binary: bool):
    tensor = library.InferInput("INPUT0", list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    return [tensor]


def same(one, other) -> bool:
    one = (
        one if one.dtype != object else numpy.array([each.encode() if isinstance(each, str) else each for each in one.reshape(-1)], object)
    )
    return one.reshape(-1).tolist() == other.reshape(-1).tolist()


def forms(datatype: str):
    return [(is_in, is_out) for is_in in (True, False) for is_out in (True, False) if datatype != "FP16" or (is_in and is_out)]


def add_inputs():
    tensors = []
    for name, values in (("a", [1, 2, 3]), ("b", [4, 5, 6])):
        tensors.append(triton.InferInput(name, [1, 3], "FP32"))
        tensors[-1].set_data_from_numpy(numpy.array([values], dtype=numpy.float32))
    return tensors


# The client writes its own headers into the dictionary that it is given: each call gets a new one.
def synchronous(address: str, headers: dict[str, str]) -> None:
    client = triton.InferenceServerClient(address, concurrency=2)
    holds("live", client.is_server_live(headers=dict(headers)))
    holds("ready", client.is_server_ready(headers=dict(headers)))
    holds("model ready", client.is_model_ready("add", headers=dict(headers)) and client.is_model_ready("add", "1", headers=dict(headers)))
    holds("unknown model is not ready", not client.is_model_ready("nope", headers=dict(headers)))
    holds("server metadata", "binary_tensor_data" in client.get_server_metadata(headers=dict(headers))["extensions"])
    metadata = client.get_model_metadata("add", headers=dict(headers))
    holds("model metadata", [each["name"] for each in metadata["inputs"]] == ["a", "b"])
    holds("model config", client.get_model_config("add", headers=dict(headers))["name"] == "add")
    holds("statistics", client.get_inference_statistics("add", headers=dict(headers))["model_stats"][0]["name"] == "add")
    holds("repository index", "add" in [each["name"] for each in client.get_model_repository_index(headers=dict(headers))])
    for datatype, array in ARRAYS.items():
        for is_in, is_out in forms(datatype):
            wanted = [triton.InferRequestedOutput("OUTPUT0", binary_data=is_out)]
            inputs = inputs_of(triton, array, is_binary=is_in)
            answer = client.infer(f"identity_{datatype.lower()}", inputs, outputs=wanted, request_id="7", headers=dict(headers))
            holds(f"{datatype} binary in {is_in}, out {is_out}", same(answer.as_numpy("OUTPUT0"), array))
            holds("id", answer.get_response()["id"] == "7")
    answer = client.infer("add", add_inputs(), headers=dict(headers))
    holds(
        "two outputs by default", (answer.as_numpy("sum").tolist(), answer.as_numpy("difference").tolist()) == ([[5, 7, 9]], [[-3, -3, -3]])
    )
    for algorithm in ("gzip", "deflate"):
        answer = client.infer(
            "add", add_inputs(), headers=dict(headers), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
        holds(f"{algorithm} both ways", answer.as_numpy("sum").tolist() == [[5, 7, 9]])
    answer = client.infer("add", add_inputs(), headers=dict(headers), priority=1, timeout=1_000_000, parameters={"note": "x"})
    holds("priority, timeout, parameters", answer.as_numpy("sum").tolist() == [[5, 7, 9]])
    waiting = [client.async_infer("add", add_inputs(), headers=dict(headers)) for _ in range(8)]
    holds("async_infer", all(each.get_result().as_numpy("sum").tolist() == [[5, 7, 9]] for each in waiting))
    wanted = [triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    array = numpy.array([[0.5, 2.5, 1.5]], dtype=numpy.float32)
    answer = client.infer("identity_fp32", inputs_of(triton, array, is_binary=True), outputs=wanted, headers=dict(headers))
    labels = [each.decode() for each in answer.as_numpy("OUTPUT0").reshape(-1)]
    holds("classification", [label.split(":")[1] for label in labels] == ["1", "2"])
    failures(client, headers)
    client.close()


def failures(client, headers) -> None:
    wrong = triton.InferInput("a", [1, 2], "FP32")
    wrong.set_data_from_numpy(numpy.zeros((1, 2), dtype=numpy.float32))
    for what, call, status in (
        ("unknown model", lambda: client.infer("nope", add_inputs(), headers=dict(headers)), "404"),
        ("unknown version", lambda: client.infer("add", add_inputs(), "9", headers=dict(headers)), "404"),
        ("missing input", lambda: client.infer("add", add_inputs()[:1], headers=dict(headers)), "400"),
        ("wrong shape", lambda: client.infer("add", [wrong, add_inputs()[1]], headers=dict(headers)), "400"),
        ("metadata of an unknown model", lambda: client.get_model_metadata("nope", headers=dict(headers)), "404"),
    ):
        try:
            call()
        except InferenceServerException as error:
            holds(f"{what}: {status}", error.status() == status and error.message())
        else:
            raise AssertionError(f"{what}: no error")


async def asynchronous(address: str, headers: dict[str, str]) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        holds("aio live", await client.is_server_live(headers=dict(headers)))
        holds("aio metadata", (await client.get_model_metadata("add", headers=dict(headers)))["name"] == "add")
        answers = await asyncio.gather(*(client.infer("add", add_inputs(), headers=dict(headers)) for _ in range(8)))
        holds("aio infer", all(each.as_numpy("sum").tolist() == [[5, 7, 9]] for each in answers))
        for datatype, array in ARRAYS.items():
            inputs = inputs_of(triton_aio, array, is_binary=True)
            answer = await client.infer(f"identity_{datatype.lower()}", inputs, headers=dict(headers))
            holds(f"aio {datatype}", same(answer.as_numpy("OUTPUT0"), array))


if __name__ == "__main__":
    place = sys.argv[1].removeprefix("http://").rstrip("/")
    given = {"Authorization": f"Bearer {sys.argv[2]}"} if len(sys.argv) > 2 else {}
    synchronous(place, given)
    asyncio.run(asynchronous(place, given))
    print(f"{len(held)} held")
