"""MLServer's codecs over plain HTTP, and its command `mlserver infer`. Runs in mlserver's own environment.

Usage: python mlserver_client.py URL [TOKEN]. Ends with an AssertionError, or prints how many things held.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy
from mlserver.codecs import Base64Codec, NumpyCodec, NumpyRequestCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse, MetadataServerResponse

held: list[str] = []


def holds(what: str, is_so: object) -> None:
    assert is_so, what
    held.append(what)


def asked(url: str, model: str, request: InferenceRequest, headers: dict[str, str]) -> InferenceResponse:
    body = request.model_dump_json().encode()
    return InferenceResponse.model_validate_json(fetched(f"{url}/v2/models/{model}/infer", headers, body))


def fetched(url: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    asking = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(asking, timeout=30) as reply:
        return reply.read()


def codecs(url: str, headers: dict[str, str]) -> None:
    for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"):
        array = numpy.array([[1, 2, 3]], dtype=name)
        datatype = name.replace("float", "fp")
        request = InferenceRequest(id="7", inputs=[NumpyCodec.encode_input("INPUT0", array)])
        answer = asked(url, f"identity_{datatype}", request, headers)
        decoded = NumpyCodec.decode_output(answer.outputs[0])
        holds(f"NumpyCodec {name}", decoded.tolist() == array.tolist() and decoded.dtype == array.dtype and answer.id == "7")
    request = InferenceRequest(inputs=[StringCodec.encode_input("INPUT0", ["a", "é€😀"])])
    holds("StringCodec", StringCodec.decode_output(asked(url, "identity_bytes", request, headers).outputs[0]) == ["a", "é€😀"])
    request = InferenceRequest(inputs=[Base64Codec.encode_input("INPUT0", [b"\xff\x00"], use_bytes=False)])
    holds("Base64Codec", Base64Codec.decode_output(asked(url, "identity_bytes", request, headers).outputs[0]) == [b"\xff\x00"])
    request = NumpyRequestCodec.encode_request(numpy.array([[1.0, 2.0]]))
    request.inputs[0].name = "INPUT0"
    holds("NumpyRequestCodec", NumpyRequestCodec.decode_response(asked(url, "identity_fp64", request, headers)).tolist() == [[1.0, 2.0]])
    holds("server metadata", MetadataServerResponse.model_validate_json(fetched(f"{url}/v2", headers)).name)
    metadata = MetadataModelResponse.model_validate_json(fetched(f"{url}/v2/models/add", headers))
    holds("model metadata", [each.name for each in metadata.inputs] == ["a", "b"])


def batch(url: str, headers: dict[str, str]) -> None:
    """`mlserver infer` reads requests line by line and sends them through tritonclient."""
    lines = [
        json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [float(place), 0.5]}]})
        for place in range(20)
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.write_text("\n".join(lines), encoding="utf-8")
        command = [
            str(Path(sys.executable).with_name("mlserver")), "infer", "-u", url.removeprefix("http://"), "-m", "identity_fp32",
            "-i", str(source), "-o", str(target), "-w", "4",
        ]  # fmt: skip
        for name, value in headers.items():
            command += ["-H", f"{name}:{value}"]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        answers = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    holds("mlserver infer", sorted(each["outputs"][0]["data"][0] for each in answers) == [float(place) for place in range(20)])


if __name__ == "__main__":
    given = {"Authorization": f"Bearer {sys.argv[2]}"} if len(sys.argv) > 2 else {}
    codecs(sys.argv[1].rstrip("/"), given)
    batch(sys.argv[1].rstrip("/"), given)
    print(f"{len(held)} held")
