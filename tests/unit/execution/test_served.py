"""A service or a model behind `ServedModel`: every way to write `predict`, and what other callers notice when one goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray

from fabric.errors import FabricError, ModelError, RejectedError, UserError
from serve_apps import ModelService
from serve_apps.declare import batched
from serve_apps.execution.build import build_served_model, serve_runtime
from serve_apps.execution.served import Served
from serve_apps.model_service import Capture
from serve_apps.serve_options import ServeOptions, class_options
from serve_apps.tensors import InferRequest, ModelMetadata, RequestedOutput, Tensor, TensorSpec

Floats = NDArray[numpy.float32]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, timeout=60))


def request_of(*rows: float, **more: Any) -> InferRequest:
    return InferRequest("m", (Tensor("x", "FP32", numpy.array(rows, dtype=numpy.float32)),), **more)


def text_of(text: str, **more: Any) -> InferRequest:
    return InferRequest("m", (Tensor("text", "BYTES", numpy.array([text.encode()], dtype=object)),), **more)


def served(service: ModelService, **options: Any) -> Served:
    return build_served_model(service, "m", "1", replace(class_options(type(service)), **options))


class Double(ModelService):
    def predict(self, x: Floats) -> Floats:
        return x * 2


class DoubleLater(ModelService):
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def predict(self, x: Floats) -> Floats:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        return x * 2


class Batched(ModelService):
    """Doubles; refuses negative rows. `gate` holds the first call until the test has sent the others."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate, self.sizes = gate, []

    @batched(max_batch_size=8, latency_budget_ms=1000)
    def predict(self, x: Floats) -> Floats:
        if self.gate is not None:
            self.gate.wait(30)
        self.sizes.append(len(x))
        if (x < 0).any():
            raise ValueError("a negative row")
        return x * 2


class Spell(ModelService):
    closed = 0

    def predict(self, text: str, fail_at: int = -1) -> Iterator[str]:
        try:
            for number, letter in enumerate(text):
                if number == fail_at:
                    raise ValueError("tired")
                yield letter
        finally:
            type(self).closed += 1


class SpellLater(ModelService):
    async def predict(self, text: str) -> AsyncIterator[str]:
        for letter in text:
            await asyncio.sleep(0)
            yield letter


@pytest.mark.parametrize("cls", [Double, DoubleLater, Batched])
def test_however_predict_is_written_it_answers(cls: type[ModelService]) -> None:
    async def main() -> None:
        model = served(cls())
        answer = await model.infer(request_of(1.0, 2.0, id="7"))
        assert (answer.id, answer.model_name, answer.model_version) == ("7", "m", "1")
        assert answer.outputs[0].array.tolist() == [2.0, 4.0]
        assert [one.outputs[0].array.tolist() async for one in model.stream(request_of(3.0))] == [[6.0]]
        assert (await model.call({"x": [5]})).tolist() == [10.0]
        await model.close()
        assert not model.is_ready

    run(main())


@pytest.mark.parametrize("cls", [Spell, SpellLater])
def test_generators_stream_and_their_text_is_joined_where_one_answer_is_wanted(cls: type[ModelService]) -> None:
    async def main() -> None:
        model = served(cls())
        assert (model.metadata.is_streaming, model.metadata.kind) == (True, "generate")
        assert (model.metadata.text_input, model.metadata.text_output) == ("text", "output")
        assert [one.outputs[0].array.item() async for one in model.stream(text_of("abc"))] == [b"a", b"b", b"c"]
        assert (await model.infer(text_of("abc"))).outputs[0].array.item() == b"abc"
        assert await model.call({"text": "ab"}) == ["a", "b"]
        await model.close()

    run(main())


def test_a_stream_that_fails_gives_what_came_before_and_then_the_error() -> None:
    async def main() -> None:
        model = served(Spell())
        got = []
        with pytest.raises(ModelError, match="ValueError: tired"):
            async for one in model.stream(text_of("abc", parameters={"fail_at": 2})):
                got.append(one.outputs[0].array.item())  # noqa: PERF401 - what came before the error must be kept
        assert got == [b"a", b"b"]
        assert model.num_ongoing == 0
        await model.close()

    run(main())


def test_a_reader_that_leaves_closes_the_generator_and_frees_its_slot() -> None:
    async def main() -> None:
        model = served(Spell())
        before = Spell.closed
        stream = model.stream(text_of("a" * 1000))
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        assert (model.num_ongoing, Spell.closed) == (0, before + 1)
        assert (await model.infer(text_of("b"))).outputs[0].array.item() == b"b"
        await model.close()

    run(main())


def test_requests_that_come_together_share_a_call_and_an_error_stays_with_its_own() -> None:
    async def main() -> None:
        model = served(Batched(), inline=False)
        asked = [request_of(float(number)) for number in (1, -2, 3, 4)]
        await model.infer(request_of(0.0, 0.0, 0.0))  # sizes are tried step by step
        answers = await asyncio.gather(*(model.infer(one) for one in asked), return_exceptions=True)
        assert [None if isinstance(one, BaseException) else one.outputs[0].array.item() for one in answers] == [2.0, None, 6.0, 8.0]
        assert isinstance(answers[1], ModelError)
        assert (answers[1].code, str(answers[1])) == ("predict_failed", "ValueError: a negative row")
        assert {one["batch_size"] for one in model.statistics()["batch_stats"]} == {3, 4}
        with pytest.raises(ModelError) as caught:
            await model.infer(request_of(*[0.0] * 9))
        assert caught.value.code == "wrong_shape"
        await model.close()

    run(main())


def test_who_finds_the_queue_full_is_told_when_to_come_back_and_who_goes_away_makes_room() -> None:
    async def main() -> None:
        gate = threading.Event()
        model = served(Batched(gate), max_queued=2, max_batch_size=1)
        running = [asyncio.create_task(model.infer(request_of(float(number)))) for number in range(3)]
        while model.num_ongoing < 3:
            await asyncio.sleep(0)
        with pytest.raises(RejectedError) as caught:
            await model.infer(request_of(9.0))
        assert caught.value.code == "queue_full"
        assert caught.value.retry_after_s
        running[1].cancel()
        await asyncio.wait([running[1]])
        last = asyncio.create_task(model.infer(request_of(4.0)))
        while model.num_ongoing < 3:
            await asyncio.sleep(0)
        gate.set()
        assert [(await one).outputs[0].array.item() for one in (running[0], running[2], last)] == [0.0, 4.0, 8.0]
        await model.close()

    run(main())


def test_a_caller_that_leaves_while_its_call_runs_holds_the_slot_until_the_call_has_ended() -> None:
    async def main() -> None:
        gate = threading.Event()
        model = served(Batched(gate))
        first = asyncio.create_task(model.infer(request_of(1.0)))
        while model._runner._num_free:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert model.num_ongoing == 1
        gate.set()
        assert (await model.infer(request_of(2.0))).outputs[0].array.item() == 4.0
        assert model.num_ongoing == 0
        await model.close()

    run(main())


def test_deadlines_are_kept_at_the_door_and_in_the_queue() -> None:
    async def main() -> None:
        gate = threading.Event()
        model = served(Batched(gate), max_batch_size=1)
        with pytest.raises(RejectedError) as caught:
            await model.infer(request_of(1.0, deadline_s=time.monotonic() - 1))
        assert caught.value.code == "deadline_exceeded"
        first = asyncio.create_task(model.infer(request_of(1.0)))
        while model._runner._num_free:
            await asyncio.sleep(0)
        with pytest.raises(RejectedError) as caught:  # the timer tells it while the first call still runs
            await model.infer(request_of(2.0, deadline_s=time.monotonic() + 0.01))
        assert caught.value.code == "deadline_exceeded"
        gate.set()
        await first
        await model.close()

    run(main())


def test_closing_answers_those_who_wait_and_refuses_new_ones() -> None:
    async def main() -> None:
        gate = threading.Event()
        model = served(Batched(gate), max_batch_size=1)
        waiting = [asyncio.create_task(model.infer(request_of(float(number)))) for number in range(3)]
        while model.num_ongoing < 3:
            await asyncio.sleep(0)
        closing = asyncio.create_task(model.close())
        await asyncio.sleep(0)
        with pytest.raises(RejectedError) as caught:
            await model.infer(request_of(9.0))
        assert (caught.value.code, caught.value.retryable) == ("unloading", True)
        gate.set()
        assert [(await one).outputs[0].array.item() for one in waiting] == [0.0, 2.0, 4.0]
        await closing

    run(main())


class Threads(ModelService):
    def predict(self, x: Floats) -> str:
        return threading.current_thread().name


def test_quick_calls_come_to_run_on_the_servers_own_thread_unless_the_service_forbids_it() -> None:
    async def main() -> None:
        for is_allowed in (True, False):
            model = served(Threads(), inline=is_allowed)
            seen = {await model.call({"x": [1.0]}) for _ in range(100)}
            assert seen == {"predict"}
            model._runner._inline._slow_frac = 0.0  # as after many quick calls, however busy this machine is
            model._runner._inline.note(0.0, time.monotonic())
            assert await model.call({"x": [1.0]}) == (threading.current_thread().name if is_allowed else "predict")
            await model.close()

    run(main())


class Bound(ModelService):
    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:")

    def predict(self, x: Floats) -> int:
        return int(self.database.execute("select 7").fetchone()[0])

    def close(self) -> None:
        self.database.close()


def test_a_service_that_is_bound_to_its_thread_goes_back_there_unnoticed() -> None:
    async def main() -> None:
        model = served(Bound())
        model._runner._inline.is_inline = True
        assert [await model.call({"x": [1.0]}) for _ in range(3)] == [7, 7, 7]
        assert not model._runner._inline.is_inline
        await model.close()

    run(main())


def test_equal_requests_are_answered_from_the_cache() -> None:
    class Count(ModelService):
        def __init__(self) -> None:
            self.calls = 0

        def predict(self, x: Floats) -> int:
            self.calls += 1
            return self.calls

    async def main() -> None:
        model = served(Count(), cache_bytes=1_000_000)
        answers = [(await model.infer(request_of(value))).outputs[0].array.item() for value in (1.0, 1.0, 2.0, 1.0)]
        assert answers == [1, 1, 2, 1]
        stats = model.statistics()["inference_stats"]
        assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (2, 2)
        await model.close()

    run(main())


class Model:
    """A loaded model as the runtimes give it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        spec = (TensorSpec("x", "FP32", shape),)
        self.metadata = ModelMetadata("", (), "onnx_onnxv1", spec, (TensorSpec("y", "FP32", shape), TensorSpec("z", "FP32", shape)))
        self.is_closed = False

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"] + 1, "z": inputs["x"] - 1}

    def close(self) -> None:
        self.is_closed = True


def test_a_bare_model_is_served_with_its_own_names_and_checks() -> None:
    async def main() -> None:
        loaded = Model((-1,))
        model = serve_runtime(loaded, "plain", "3", ServeOptions(max_batch_size=4))
        assert (model.metadata.name, model.metadata.versions, model.metadata.max_batch_size) == ("plain", ("3",), 4)
        answer = await model.infer(request_of(1.0, outputs=(RequestedOutput("z"),)))
        assert [(one.name, one.array.tolist()) for one in answer.outputs] == [("z", [0.0])]
        together = await asyncio.gather(*(model.infer(request_of(float(number))) for number in range(8)))
        assert [one.outputs[0].array.item() for one in together] == [number + 1.0 for number in range(8)]
        bad = InferRequest("plain", (Tensor("x", "FP64", numpy.zeros(1)),))
        with pytest.raises(ModelError) as caught:
            await model.infer(bad)
        assert caught.value.code == "wrong_dtype"
        assert model.statistics()["inference_stats"]["fail"]["count"] == 1
        await model.close()
        assert loaded.is_closed

    run(main())


def test_a_model_with_a_fixed_first_dimension_takes_no_batches() -> None:
    with pytest.raises(UserError) as caught:
        serve_runtime(Model((1, 3)), "m", "1", ServeOptions(max_batch_size=4))
    assert caught.value.code == "not_batchable"


class Odd(ModelService):
    max_batch_size = 4
    kind = "embeddings"

    def predict(this, texts: list[str], *, scale: float = 1.0) -> Floats:
        return numpy.array([[len(text) * scale] for text in texts], dtype=numpy.float32)


def test_a_text_service_takes_batches_of_text_and_says_what_it_is_for() -> None:
    async def main() -> None:
        model = served(Odd(), inline=False)
        assert (model.metadata.kind, model.metadata.text_input, model.metadata.max_batch_size) == ("embeddings", "texts", 4)
        assert [str(spec) for spec in model.metadata.inputs] == ["texts: BYTES[?]", "scale: FP64[1]"]
        asked = [InferRequest("m", (Tensor("texts", "BYTES", numpy.array([b"a" * size], dtype=object)),)) for size in range(1, 5)]
        answers = await asyncio.gather(*(model.infer(one) for one in asked))
        assert [one.outputs[0].array.tolist() for one in answers] == [[[float(size)]] for size in range(1, 5)]
        assert (await model.call({"texts": ["ab", "c"], "scale": 2.0})).tolist() == [[4.0], [2.0]]
        await model.close()

    run(main())


def test_what_a_constructor_raises_comes_out_as_it_was() -> None:
    class Broken(ModelService):
        def __init__(self) -> None:
            raise ModelError("no weights", code="model_not_found")

        def predict(self) -> None: ...

    with pytest.raises(FabricError) as caught:
        build_served_model(Capture(Broken, (), {}), "m", "1")
    assert caught.value.code == "model_not_found"


def test_python_callers_get_what_predict_raised_as_it_was() -> None:
    class Fails(ModelService):
        def predict(self, x: int) -> int:
            raise KeyError("x")

    async def main() -> None:
        model = served(Fails())
        with pytest.raises(KeyError):
            await model.call({"x": 1})
        await model.close()

    run(main())
