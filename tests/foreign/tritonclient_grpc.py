"""NVIDIA's gRPC client, synchronous, asyncio and streaming, against the server at HOST:PORT. Runs in tritonclient's own environment.

Usage: python tritonclient_grpc.py HOST:PORT [TOKEN]. Ends with an AssertionError, or prints how many things held.
"""

from __future__ import annotations

import asyncio
import queue
import sys

import numpy
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonclient_http import ARRAYS, held, holds, same


def inputs_of(library, array):
    tensor = library.InferInput("INPUT0", list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return [tensor]


def add_inputs(library=triton):
    tensors = []
    for name, values in (("a", [1, 2, 3]), ("b", [4, 5, 6])):
        tensors.append(library.InferInput(name, [1, 3], "FP32"))
        tensors[-1].set_data_from_numpy(numpy.array([values], dtype=numpy.float32))
    return tensors


def words_input(library, text: bytes):
    tensor = library.InferInput("text_input", [1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([text], dtype=object))
    return [tensor]


def synchronous(address: str, headers: dict[str, str]) -> None:
    client = triton.InferenceServerClient(address)
    holds("live", client.is_server_live(headers=headers))
    holds("ready", client.is_server_ready(headers=headers))
    holds("model ready", client.is_model_ready("add", headers=headers) and client.is_model_ready("add", "1", headers=headers))
    holds("server metadata", client.get_server_metadata(headers=headers).name)
    holds("model metadata", [each.name for each in client.get_model_metadata("add", headers=headers).inputs] == ["a", "b"])
    holds("model config", client.get_model_config("add", headers=headers).config.name == "add")
    holds("statistics", client.get_inference_statistics("add", headers=headers).model_stats[0].name == "add")
    holds("repository index", "add" in [each.name for each in client.get_model_repository_index(headers=headers).models])
    for datatype, array in ARRAYS.items():
        answer = client.infer(f"identity_{datatype.lower()}", inputs_of(triton, array), request_id="7", headers=headers)
        holds(datatype, same(answer.as_numpy("OUTPUT0"), array))
        holds("id", answer.get_response().id == "7")
    answer = client.infer("add", add_inputs(), outputs=[triton.InferRequestedOutput("difference")], headers=headers)
    holds("requested output", answer.as_numpy("difference").tolist() == [[-3, -3, -3]] and answer.as_numpy("sum") is None)
    answer = client.infer("add", add_inputs(), priority=1, timeout=1_000_000, parameters={"note": "x", "n": 1, "f": True}, headers=headers)
    holds("priority, timeout, parameters", answer.as_numpy("sum").tolist() == [[5, 7, 9]])
    answer = client.infer("add", add_inputs(), compression_algorithm="gzip", headers=headers)
    holds("gzip", answer.as_numpy("sum").tolist() == [[5, 7, 9]])
    failures(client, headers)
    streamed(client, headers)
    client.close()


def failures(client, headers) -> None:
    wrong = triton.InferInput("a", [1, 2], "FP32")
    wrong.set_data_from_numpy(numpy.zeros((1, 2), dtype=numpy.float32))
    for what, call, status in (
        ("unknown model", lambda: client.infer("nope", add_inputs(), headers=headers), "NOT_FOUND"),
        ("unknown version", lambda: client.infer("add", add_inputs(), "9", headers=headers), "NOT_FOUND"),
        ("missing input", lambda: client.infer("add", add_inputs()[:1], headers=headers), "INVALID_ARGUMENT"),
        ("wrong shape", lambda: client.infer("add", [wrong, add_inputs()[1]], headers=headers), "INVALID_ARGUMENT"),
        ("metadata of an unknown model", lambda: client.get_model_metadata("nope", headers=headers), "NOT_FOUND"),
    ):
        try:
            call()
        except InferenceServerException as error:
            holds(f"{what}: {status}, was {error.status()}", error.status() == f"StatusCode.{status}" and error.message())
        else:
            raise AssertionError(f"{what}: no error")


def streamed(client, headers) -> None:
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
    for place in range(4):
        client.async_stream_infer("add", add_inputs(), request_id=str(place))
    found = [answers.get(timeout=20) for _ in range(4)]
    holds("stream", all(error is None and result.as_numpy("sum").tolist() == [[5, 7, 9]] for result, error in found))
    holds("stream ids", sorted(result.get_response().id for result, _ in found) == ["0", "1", "2", "3"])
    client.async_stream_infer("add", add_inputs()[:1])
    _, error = answers.get(timeout=20)
    holds("an error inside a stream", isinstance(error, InferenceServerException))
    client.async_stream_infer("words", words_input(triton, b"one two three"), enable_empty_final_response=True)
    words, is_last = [], False
    while not is_last:
        result, error = answers.get(timeout=20)
        assert error is None, error
        response = result.get_response()
        is_last = response.parameters["triton_final_response"].bool_param
        words += [each.decode() for each in result.as_numpy("text_output").reshape(-1)] if response.outputs else []
    holds("a model of many answers, and its end", words == ["one", "two", "three"])
    client.stop_stream()


async def asynchronous(address: str, headers: dict[str, str]) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        holds("aio live", await client.is_server_live(headers=headers))
        answers = await asyncio.gather(*(client.infer("add", add_inputs(triton_aio), headers=headers) for _ in range(8)))
        holds("aio infer", all(each.as_numpy("sum").tolist() == [[5, 7, 9]] for each in answers))

        async def requests():
            for text in (b"one two", b"three"):
                yield {"model_name": "words", "inputs": words_input(triton_aio, text)}

        words = []
        async for result, error in client.stream_infer(requests(), headers=headers):
            assert error is None, error
            words += [each.decode() for each in result.as_numpy("text_output").reshape(-1)]
        holds("aio stream", sorted(words) == ["one", "three", "two"])


if __name__ == "__main__":
    given = {"authorization": f"Bearer {sys.argv[2]}"} if len(sys.argv) > 2 else {}
    synchronous(sys.argv[1], given)
    asyncio.run(asynchronous(sys.argv[1], given))
    print(f"{len(held)} held")
