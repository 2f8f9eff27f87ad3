"""What serving adds to a model: an ONNX model of one million parameters over REST and gRPC, less the model's own time.

The reference is an echo of the same bytes on the same protocol through Ray Serve's HAProxy, in the same run: a server that does nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy
from onnx_model import WIDTHS, Bare, write
from ours import Ours
from payload import floats, infer_body
from peers.ray_serve import RAY_SERVE_HAPROXY
from peers.server import Server
from roster import options, running, settle
from serial import grpc_ms, http_ms

from serve_apps.oip.messages import ModelInferRequest, ModelInferResponse

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, report

GOALS = {"rest_overhead_ratio": "<= 1.25", "grpc_overhead_ratio": "<= 1.25"}
_WARM_UP = 200
_REQUESTS = 400
_TOLERANCE = 1e-4


def main() -> None:
    args = options(__doc__ or "", rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "dense.onnx")
        bare = Bare(path)
        with running(Ours(onnx=path), (RAY_SERVE_HAPROXY,), args.venvs, rest_body(row())) as (servers, skipped):
            if skipped:
                raise SystemExit(f"there is nothing to compare with: {skipped}")
            rounds = [measure(servers["ours"], servers["ray_serve_haproxy"], bare) for _ in range(args.rounds)]
    figures = {name: median([each[name] for each in rounds]) for name in rounds[0]}
    for protocol in ("rest", "grpc"):
        ratios = [(each[f"{protocol}_ms"] - each["model_ms"]) / each[f"{protocol}_echo_ms"] for each in rounds]
        figures = {f"{protocol}_overhead_ratio": median(ratios), **figures}
    report(figures, GOALS, as_json=args.json)


def measure(ours: Server, echo: Server, bare: Bare) -> dict[str, float]:
    """One round: medians in ms of the model alone, of ours and of the echo on both protocols."""
    x = row()
    body, message = rest_body(x), infer_message(x)
    want = bare.run(x)
    seen = {"model_ms": median(bare.ms(x, count=_REQUESTS))}
    for prefix, server in (("", ours), ("echo_", echo)):
        server.thaw()
        settle(server, body)
        http_ms(server.url, body, count=_WARM_UP)
        took_ms, answer = http_ms(server.url, body, count=_REQUESTS)
        seen[f"rest_{prefix}ms"] = median(took_ms)
        # Ray Serve picks the application by a header.
        metadata = (("application", "echo"),) if server is echo else ()
        grpc_ms(server.grpc_target, message, count=_WARM_UP, metadata=metadata)
        took_ms, got = grpc_ms(server.grpc_target, message, count=_REQUESTS, metadata=metadata)
        seen[f"grpc_{prefix}ms"] = median(took_ms)
        server.freeze()
        if server is ours:
            check(json.loads(answer)["outputs"][0]["data"], got, want)
    return seen


def row() -> numpy.ndarray:
    """float32[1, 64]"""
    return numpy.array(floats(WIDTHS[0]), numpy.float32).reshape(1, WIDTHS[0])


def rest_body(x: numpy.ndarray) -> bytes:
    return infer_body("x", x.shape, x.ravel().tolist())


def infer_message(x: numpy.ndarray) -> bytes:
    """A serialized `ModelInferRequest` with raw contents, as foreign clients send it."""
    request = ModelInferRequest(model_name="echo", id="1", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request.SerializeToString()


def check(rest: list[float], grpc: bytes, want: numpy.ndarray) -> None:
    """Raises: `RuntimeError` unless both answers are the model's."""
    raw = ModelInferResponse.FromString(grpc).raw_output_contents[0]
    for got in (numpy.array(rest, numpy.float32), numpy.frombuffer(raw, numpy.float32)):
        if numpy.abs(got.reshape(want.shape) - want).max() > _TOLERANCE:
            raise RuntimeError("the served model answered otherwise than the model alone")


if __name__ == "__main__":
    main()
