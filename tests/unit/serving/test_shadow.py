"""Shadow copies: what is copied, what is compared, what is dropped, and that nothing of it reaches users or their accounts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy
import pytest

from serve_apps.directory.requests import ShadowOrder
from serve_apps.directory.table import WHOLE
from serve_apps.gateway.routes import Address
from serve_apps.observer import Observer
from serve_apps.oip.answer import Answer, Stream
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.inference import Call
from serve_apps.oip.protobuf_codec import write_request
from serve_apps.oip.rest import RestApp
from serve_apps.shadow.compare import compare
from serve_apps.shadow.mirror import BUSY, MAX_COPY_BYTES, MAX_WAITING, Mirror
from serve_apps.tensors import InferRequest, Tensor
from tests.unit.gateway.in_memory import Pool
from tests.unit.oip.models import Small
from tests.unit.oip.server import call

SHADOW = Address("10.0.0.9", 1)


def model(version: str, run: Any) -> Small:
    return Small("m", "x FP32 -1 2", "y FP32 -1 2", run, version=version, max_batch_size=8)


class World:
    """A replica of version 1 that copies to one of version 2. `share`: in ten-thousandths."""

    def __init__(self, run: Any = lambda arrays: {"y": arrays["x"]}, *, share: int = WHOLE, draw: Any = lambda n: 0) -> None:
        self.pool, self.observer = Pool(), Observer()
        self.num_ongoing = 0
        self.mirror = Mirror(self.observer, lambda: self.num_ongoing, self.pool, draw)  # type: ignore[arg-type]
        self.mirror.order = ShadowOrder(share, (SHADOW,))
        self.shadow = model("2", run)
        self.records: list[Any] = []
        self.seen_by_shadow: list[Any] = []
        self.pool.apps[SHADOW] = self._app(self.shadow, lambda *seen: self.seen_by_shadow.append(seen))
        self.app = self._app(model("1", lambda arrays: {"y": arrays["x"]}), self._watch)

    def _app(self, served: Small, watch: Any) -> RestApp:
        plane = DataPlane(takes_aliases=True)
        plane.add(served)
        return RestApp(plane, record=lambda **usage: self.records.append(usage), watch=watch)

    def _watch(self, asked: Call, answer: Answer | Stream | None, status: int, duration_s: float, /) -> None:
        self.observer.answered(status, 1e3 * duration_s)
        if status == 200 and isinstance(answer, Answer):
            self.mirror.offer(asked, answer)

    def ask(self, path: str, body: bytes, times: int = 1, **headers: str) -> None:
        async def run() -> None:
            for _ in range(times):
                assert (await call(self.app, "POST", path, body, headers)).status in (200, 400)
            if self.mirror._sending is not None:
                await self.mirror._sending

        asyncio.run(run())


def as_json(*rows: tuple[float, float], **more: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": rows}], **more}).encode()


def as_binary() -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + numpy.array([1, 2], "<f4").tobytes(), {"inference-header-content-length": str(len(head))}


def as_protobuf(version: str = "") -> bytes:
    return b"".join(write_request(InferRequest("m", (Tensor("x", "FP32", numpy.array([[1, 2]], "<f4")),), version)))


WAYS = [
    ("/v2/models/m/infer", as_json((1, 2)), {}),
    ("/v2/models/m/versions/1/infer", as_json((1, 2)), {}),
    ("/v2/models/m/infer", *as_binary()),
    ("/v2/models/m/infer", as_json((1, 2)), {"accept-encoding": "gzip"}),
    ("/m/predict", json.dumps({"x": [[1, 2]]}).encode(), {}),
    ("/v2/models/m/generate", json.dumps({"x": [1, 2]}).encode(), {}),
    ("/grpc/ModelInfer", as_protobuf(), {}),
    ("/grpc/ModelInfer", as_protobuf("1"), {}),
]


@pytest.mark.parametrize(
    ("path", "body", "headers"), WAYS, ids=["json", "by version", "binary", "gzip", "plain", "generate", "grpc", "grpc 1"]
)
def test_every_way_of_asking_is_copied_and_compared(path: str, body: bytes, headers: dict[str, str]) -> None:
    world = World()
    world.ask(path, body, **headers)
    seen = world.observer.observed()
    assert (seen.num_compared, seen.num_agreed, seen.num_shadow_failed, seen.num_shadow_dropped) == (1, 1, 0, 0)
    assert sum(seen.shadow_latency_counts.values()) == seen.num_requests == 1
    assert (seen.drift.count, seen.drift.total) == (1, 0.0)
    assert len(world.records) == 1 and not world.seen_by_shadow, "a copy leaves no usage record, and is not counted as a request"
    assert world.shadow.seen[0].priority == 2**31 - 1, "behind everybody else"


def test_answers_that_differ_are_counted_with_how_far() -> None:
    world = World(lambda arrays: {"y": arrays["x"][:, ::-1]})
    world.ask("/v2/models/m/infer", as_json((1, 2)), times=3)
    seen = world.observer.observed()
    assert (seen.num_compared, seen.num_agreed) == (3, 0)
    assert seen.drift.total / 3 == pytest.approx(2**0.5 / 5**0.5)


def test_a_share_is_copied() -> None:
    draws = iter([99, 100, 9999, 0])
    world = World(share=100, draw=lambda n: next(draws) if n == WHOLE else 0)
    world.ask("/v2/models/m/infer", as_json((1, 2)), times=4)
    assert world.observer.observed().num_compared == 2


def test_what_failed_is_not_copied() -> None:
    world = World()
    world.ask("/v2/models/m/infer", b"no")
    assert world.pool.seen == {}


def test_a_shadow_that_fails_or_is_gone_is_counted() -> None:
    def fail(arrays: Any) -> Any:
        raise ValueError("no")

    world = World(fail)
    world.ask("/v2/models/m/infer", as_json((1, 2)))
    world.pool.dead.add(SHADOW)
    world.ask("/v2/models/m/infer", as_json((1, 2)))
    assert world.observer.observed().num_shadow_failed == 2


def test_a_busy_replica_and_large_bodies_copy_nothing() -> None:
    world = World()
    world.num_ongoing = BUSY + 1
    world.ask("/v2/models/m/infer", as_json((1, 2)))
    world.num_ongoing = 0
    rows = [(1.0, 2.0)] * (MAX_COPY_BYTES // 16)
    world.ask("/v2/models/m/infer", as_json(*rows))
    assert world.observer.observed().num_shadow_dropped == 2 and not world.pool.seen


def test_the_queue_is_short() -> None:
    world = World()

    async def run() -> None:
        asked = Call(Any, {}, None)  # type: ignore[arg-type]
        asked.route = type("R", (), {"kind": "infer", "model": "m"})()
        asked.body = [as_json((1, 2))]
        answer = Answer(200, [], [b'{"outputs":[]}'])
        for _ in range(MAX_WAITING + 5):
            world.mirror.offer(asked, answer)
        assert world.observer.observed().num_shadow_dropped == 5

    asyncio.run(run())


Y = numpy.array


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees", "drift"),
    [
        ({"y": Y([[0.1, 0.9]])}, {"y": Y([[0.4, 0.6]])}, True, None),
        ({"y": Y([[0.1, 0.9], [0.9, 0.1]])}, {"y": Y([[0.1, 0.9], [0.1, 0.9]])}, False, None),
        ({"y": Y([[2.0], [3.0]])}, {"y": Y([[2.01], [3.0]])}, True, None),
        ({"y": Y([[2.0], [3.0]])}, {"y": Y([[2.1], [3.0]])}, False, 0.5 * 0.1 / 2.1),
        ({"y": Y(2.0)}, {"y": Y(2.0)}, True, 0.0),
        ({"y": Y([1, 2])}, {"y": Y([1, 2])}, True, -1.0),
        ({"y": Y([1, 2])}, {"y": Y([1, 3])}, False, -1.0),
        ({"y": Y([b"a"], object)}, {"y": Y([b"a"], object)}, True, -1.0),
        ({"y": Y([b"a"], object)}, {"y": Y([b"b"], object)}, False, -1.0),
        ({"y": Y([1.0])}, {"z": Y([1.0])}, False, -1.0),
        ({"y": Y([1.0])}, {"y": Y([[1.0]])}, False, -1.0),
        ({"y": Y([numpy.nan])}, {"y": Y([numpy.nan])}, True, 1.0),
        ({"y": Y([[0.0, 0.0]])}, {"y": Y([[0.0, 0.0]])}, True, 0.0),
        ({"y": Y([], float)}, {"y": Y([], float)}, True, -1.0),
    ],
)
def test_when_answers_agree(ours: Any, theirs: Any, agrees: bool, drift: float | None) -> None:
    seen = compare(ours, theirs)
    assert seen.agrees == agrees
    if drift is not None:
        assert seen.drift is None if drift < 0 else seen.drift == pytest.approx(drift)


def test_errors_are_those_of_the_server_alone() -> None:
    observer = Observer()
    for status in (200, 404, 429, 499, 500, 503):
        observer.answered(status, 1.0)
    seen = observer.observed()
    assert (seen.num_errors, seen.num_requests) == (2, 5)
