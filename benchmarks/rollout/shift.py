"""What a split costs and how fast its weights change: real replica servers behind a real HAProxy, REST and gRPC.

Cost: one connection, one call at a time, an unsplit model and one that is split in halves, by turns; one process answers for all, so that
only the way there differs. The difference of the medians of each round, over the unsplit one; the median of the rounds. Change: weights
shift every quarter of a second under 100,000 requests. A change has taken effect when the last request was sent that its old weights
alone can explain.
"""

from __future__ import annotations

import asyncio
import collections
import http.client
import math
import multiprocessing
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import httptools
import numpy
import uvloop

from serve_apps.directory.table import WHOLE, ModelEntry, ReplicaAt, ReplicaId, ServingTable, Split, VersionEntry
from serve_apps.ingress.haproxy import Haproxy, haproxy_binary
from serve_apps.ingress.haproxy_config import HaproxySettings
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.protobuf_codec import write_request
from serve_apps.oip.rest import RestApp
from serve_apps.server import Server, bind
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata, Tensor, TensorSpec

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, options, report

GOALS = {
    "effect_s_max": "<= 1", "failed": "0", "rest.p50_overhead_frac": "<= 0.03", "grpc.p50_overhead_frac": "<= 0.03",
    "share_p_value": ">= 0.001",
}  # fmt: skip
REST_REQUESTS, GRPC_REQUESTS = 70_000, 30_000
CONNECTIONS = 8
SHIFT_EVERY_S = 0.25
SHARES = (0, 500, 2500, 5000, 9000, 10000, 1000, 0, 10000)
"""Of version 2, one after another, over and over."""
_WARM_UP, _CALLS = 50, 200
_SPEC = TensorSpec("x", "FP32", (-1,))
_FLOATS = numpy.arange(16, dtype="<f4")
_BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[16],"data":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}]}'
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Echo:
    """Its input again, without a queue or a thread: what is measured is the way."""

    is_ready = True

    def __init__(self, name: str, version: str) -> None:
        self.metadata, self.version = ModelMetadata(name, (version,), "python", (_SPEC,), (_SPEC,)), version

    async def infer(self, request: InferRequest) -> InferResponse:
        return InferResponse(self.metadata.name, self.version, request.inputs)

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        yield await self.infer(request)

    def statistics(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        pass


def replica(ready: Connection, version: str) -> None:
    plane = DataPlane()
    plane.add(Echo("whole", version))
    plane.add(Echo("parted", version))
    ready.send(Server(RestApp(plane), bind("127.0.0.1")).start().port)
    ready.recv()


@contextmanager
def started(version: str) -> Iterator[int]:
    """The port of a replica in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=replica, args=(there, version), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(20)
        process.kill()


def table(seq: int, ports: list[int], share: int) -> ServingTable:
    """`whole` has the first replica; `parted` has it as version 1 and the other as version 2, which gets `share` of the requests."""
    at = [ReplicaAt(ReplicaId(f"{number} at {port}"), "127.0.0.1", port) for number, port in enumerate(ports)]
    whole, parted = Echo("whole", "1").metadata, Echo("parted", "1").metadata
    versions = {"1": VersionEntry("1", parted, (at[0],)), "2": VersionEntry("2", parted, (at[1],))}
    return ServingTable(
        seq,
        {
            "whole": ModelEntry("whole", "1", {"1": VersionEntry("1", whole, (at[0],))}),
            "parted": ModelEntry("parted", "1", versions, Split({"1": WHOLE - share, "2": share}, "shift")),
        },
    )


def message(model: str) -> bytes:
    return b"".join(write_request(InferRequest(model, (Tensor("x", "FP32", _FLOATS),))))


# -- what a split costs ----------------------------------------------------------------------------------------------------


def by_turns(call: Callable[[str], None]) -> tuple[float, float]:
    """Medians in ms: unsplit, split. One call of each after the other, in changing order."""
    took: dict[str, list[float]] = {"whole": [], "parted": []}
    for number in range(_WARM_UP + _CALLS):
        for model in ("whole", "parted") if number % 2 else ("parted", "whole"):
            began_s = time.perf_counter()
            call(model)
            if number >= _WARM_UP:
                took[model].append(1e3 * (time.perf_counter() - began_s))
    return median(took["whole"]), median(took["parted"])


def rest_cost(port: int) -> tuple[float, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def call(model: str) -> None:
        connection.request("POST", f"/v2/models/{model}/infer", _BODY, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.read() and answer.status != 200:
            raise RuntimeError(f"answered {answer.status}")

    try:
        return by_turns(call)
    finally:
        connection.close()


def grpc_cost(port: int) -> tuple[float, float]:
    messages = {model: message(model) for model in ("whole", "parted")}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(_METHOD)
        return by_turns(lambda model: infer(messages[model], timeout=30))


# -- how fast weights change -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """`answers`: when each request was sent, when it was answered, and by which version; empty: it failed."""

    left: dict[str, int]
    answers: list[tuple[float, float, str]] = field(default_factory=list)

    def note(self, sent_s: float, version: str) -> None:
        self.answers.append((sent_s, time.perf_counter(), version))


class RestClient(asyncio.Protocol):
    """One request after another on one connection."""

    def __init__(self, seen: Seen, done: asyncio.Future[None]) -> None:
        self._seen, self._done = seen, done
        head = f"POST /v2/models/parted/infer HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n"
        self._request = head.encode() + _BODY
        self._is_waiting = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def _next(self) -> None:
        self._is_waiting = self._seen.left["rest"] > 0
        if not self._is_waiting:
            self._transport.close()
            return
        self._seen.left["rest"] -= 1
        self._body = b""
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        version = "" if self._parser.get_status_code() != 200 else "2" if b'"model_version":"2"' in self._body else "1"
        self._seen.note(self._sent_s, version)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_waiting:
            self._seen.note(self._sent_s, "")
        self._done.set_result(None)


async def rest_load(port: int, seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(CONNECTIONS)]
    for each in done:
        await loop.create_connection(lambda each=each: RestClient(seen, each), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*done)


async def grpc_load(port: int, seen: Seen) -> None:
    sent = message("parted")

    async def ask_on(infer: Any) -> None:
        while seen.left["grpc"] > 0:
            seen.left["grpc"] -= 1
            sent_s = time.perf_counter()
            try:
                answer = await infer(sent, timeout=300)  # the machine may pause for long
                seen.note(sent_s, "2" if b"\x12\x012" in answer[:32] else "1")
            except grpc.RpcError:
                seen.note(sent_s, "")

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(_METHOD)
        await asyncio.gather(*(ask_on(infer) for _ in range(CONNECTIONS)))


def shift(haproxy: Haproxy, ports: list[int], rest_port: int, grpc_port: int) -> dict[str, Any]:
    """Weights that change under load. Changes are (began, done, share of version 2)."""
    seen = Seen({"rest": REST_REQUESTS, "grpc": GRPC_REQUESTS})

    async def load() -> None:
        await asyncio.gather(rest_load(rest_port, seen), grpc_load(grpc_port, seen))

    haproxy.apply(table(2, ports, SHARES[0]))
    changes = [(0.0, 0.0, SHARES[0])]
    running = threading.Thread(target=lambda: uvloop.run(load()))
    running.start()
    while running.is_alive():
        running.join(SHIFT_EVERY_S)
        share = SHARES[len(changes) % len(SHARES)]
        began_s = time.perf_counter()
        haproxy.apply(table(2 + len(changes), ports, share))
        changes.append((began_s, time.perf_counter(), share))
    return {**judged(seen.answers, changes), "changes": len(changes)}


def judged(answers: list[tuple[float, float, str]], changes: list[tuple[float, float, int]]) -> dict[str, Any]:
    """A request that was on its way during a change belongs to neither side. Where all goes to one version an answer of the other one is
    of the weights before."""
    began = [*(change[0] for change in changes), math.inf]
    counts: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    effect_s = max(done_s - began_s for began_s, done_s, _ in changes)
    for sent_s, answered_s, version in answers:
        number = bisect_right(began, sent_s) - 1
        began_s, done_s, share = changes[number]
        if not version or answered_s > began[number + 1]:
            continue
        if share in (0, WHOLE) and version != ("2" if share else "1"):
            effect_s = max(effect_s, sent_s - began_s)
        if sent_s > done_s:
            counts[share][version] += 1
    chi, degrees = 0.0, 0
    for share, found in counts.items():
        n, p = found.total(), share / WHOLE
        if 0 < p < 1:
            chi += (found["2"] - n * p) ** 2 / (n * p * (1 - p))
            degrees += 1
        elif found["1" if p else "2"]:
            chi = math.inf
    shares = {f"share.{share}": counts[share]["2"] / counts[share].total() for share in sorted(counts)}
    failed = sum(not version for _, _, version in answers) + REST_REQUESTS + GRPC_REQUESTS - len(answers)
    return {"effect_s_max": effect_s, "failed": failed, "requests": len(answers), "share_p_value": upper_tail(chi, degrees), **shares}


def upper_tail(chi: float, degrees: int) -> float:
    """The chance of so large a chi-square where the shares are right. Source: Wilson and Hilferty, 1931."""
    if math.isinf(chi):
        return 0.0
    spread = 2 / (9 * degrees)
    return 0.5 * math.erfc(((chi / degrees) ** (1 / 3) - 1 + spread) / math.sqrt(2 * spread))


@contextmanager
def fronted(binary: str) -> Iterator[tuple[Haproxy, int, int]]:
    """A HAProxy, and its ports for REST and gRPC."""
    with bind("127.0.0.1") as one, bind("127.0.0.1") as two:
        rest_port, grpc_port = (listener.getsockname()[1] for listener in (one, two))
    with tempfile.TemporaryDirectory() as folder:
        settings = HaproxySettings(Path(folder), "127.0.0.1", rest_port, "127.0.0.1:9", grpc_port, "127.0.0.1:9")
        haproxy = Haproxy(binary, settings)
        haproxy.start()
        try:
            yield haproxy, rest_port, grpc_port
        finally:
            haproxy.stop()


def one_round(binary: str, ports: list[int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """A HAProxy of its own: on which of its threads a connection happens to live matters more than a split does."""
    with fronted(binary) as (haproxy, rest_port, grpc_port):
        haproxy.apply(table(1, [ports[0], ports[0]], WHOLE // 2))
        return rest_cost(rest_port), grpc_cost(grpc_port)


def main() -> None:
    args = options(__doc__ or "", rounds=31)
    binary = haproxy_binary()
    if binary is None:
        raise SystemExit("there is no haproxy on this machine")
    with ExitStack() as stack:
        ports = [stack.enter_context(started(version)) for version in ("1", "2")]
        rounds = [one_round(binary, ports) for _ in range(args.rounds)]
        with fronted(binary) as (haproxy, rest_port, grpc_port):
            figures = shift(haproxy, ports, rest_port, grpc_port)
    for at, name in ((0, "rest"), (1, "grpc")):
        figures[f"{name}.p50_overhead_frac"] = median([each[at][1] / each[at][0] - 1 for each in rounds])
        figures[f"{name}.unsplit_ms"], figures[f"{name}.split_ms"] = (median([each[at][way] for each in rounds]) for way in (0, 1))
    report(figures, GOALS, as_json=args.json)


if __name__ == "__main__":
    main()
