"""What a shadow copy is to a model's own code, its cache and its queue."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray

from fabric.errors import RejectedError, UserError
from serve_apps import ModelService, is_shadow
from serve_apps.execution.build import build_served_model
from serve_apps.execution.served import MAX_SHADOWS, Served
from serve_apps.serve_options import class_options
from serve_apps.shadow_call import shadow_call
from serve_apps.tensors import InferRequest, Tensor

Floats = NDArray[numpy.float32]


class Tells(ModelService):
    """1 where the call is a shadow's."""

    inline = False

    def predict(self, x: Floats) -> Floats:
        return numpy.full_like(x, is_shadow())


class TellsInline(Tells):
    inline = True


class TellsLater(ModelService):
    async def predict(self, x: Floats) -> Floats:
        await asyncio.sleep(0)
        return numpy.full_like(x, is_shadow())


class TellsBatched(Tells):
    max_batch_size = 8


class Writes(Tells):
    has_side_effects = True


def served(service: ModelService, **options: Any) -> Served:
    return build_served_model(service, "m", "1", replace(class_options(type(service)), **options))


async def ask(model: Served, value: float = 1.0) -> float:
    response = await model.infer(InferRequest("m", (Tensor("x", "FP32", numpy.array([value], "<f4")),)))
    return float(response.outputs[0].array[0])


async def shadow(model: Served, value: float = 1.0) -> float:
    with shadow_call():
        return await ask(model, value)


@pytest.mark.parametrize("service", [Tells, TellsInline, TellsLater, TellsBatched])
def test_user_code_can_tell_a_shadow_copy_also_among_others(service: type[ModelService]) -> None:
    async def run() -> None:
        model = served(service())
        for _ in range(100):  # enough for quick calls to run at once
            assert await ask(model) == 0.0
        assert await asyncio.gather(*([ask(model), shadow(model)] * 3)) == [0.0, 1.0] * 3
        assert await shadow(model) == 1.0 and await ask(model) == 0.0
        await model.close()

    asyncio.run(run())


def test_a_shadow_copy_neither_fills_the_cache_nor_is_answered_from_it() -> None:
    async def run() -> None:
        model = served(Tells(), cache_bytes=2**20)
        assert await shadow(model) == 1.0
        assert await ask(model) == 0.0, "nothing was kept of the copy"
        assert await shadow(model) == 1.0, "and what is kept is not its answer"
        await model.close()

    asyncio.run(run())


def test_a_model_with_side_effects_takes_no_copies() -> None:
    async def run() -> None:
        model = served(Writes())
        assert model.metadata.has_side_effects
        with pytest.raises(UserError) as caught:
            await shadow(model)
        assert caught.value.code == "has_side_effects"
        assert await ask(model) == 0.0
        await model.close()

    asyncio.run(run())


class Held(ModelService):
    async def predict(self, x: Floats) -> Floats:
        await asyncio.sleep(0.2)
        return x


def test_copies_never_fill_a_queue() -> None:
    async def run() -> None:
        model = served(Held())
        answers = await asyncio.gather(*(shadow(model) for _ in range(MAX_SHADOWS + 3)), ask(model), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, RejectedError)]
        assert len(refused) == 3 and {error.code for error in refused} == {"queue_full"}
        assert answers[-1] == 1.0
        await model.close()

    asyncio.run(run())
