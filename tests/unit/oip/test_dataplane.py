"""The data plane: names, versions, defaults."""

from __future__ import annotations

import asyncio

import pytest

from fabric.errors import UnknownNameError, UserError
from serve_apps.oip.dataplane import DataPlane
from serve_apps.tensors import InferRequest, InferResponse, RequestedOutput, Tensor
from tests.unit.oip import models
from tests.unit.oip.examples import EXAMPLES


def plane_of(*versions: str) -> DataPlane:
    plane = DataPlane()
    for version in versions:
        plane.add(models.add(version=version))
    return plane


def test_a_request_without_a_version_goes_to_the_newest() -> None:
    assert plane_of("1", "10", "9").model("add").version == "10"


def test_it_goes_to_the_newest_that_is_ready() -> None:
    plane = plane_of("1", "2")
    asyncio.run(plane.model("add", "2").close())
    assert plane.model("add").version == "1"
    assert not plane.is_model_ready("add", "2")
    asyncio.run(plane.model("add", "1").close())
    assert plane.model("add").version == "2"


def test_a_version_may_be_made_the_default_until_it_is_removed() -> None:
    plane = plane_of("1", "2", "3")
    plane.set_default("add", "2")
    assert plane.model("add").version == "2"
    assert plane.remove("add", "2").version == "2"
    assert plane.model("add").version == "3"


def test_a_model_without_versions_left_is_unknown() -> None:
    plane = plane_of("1")
    plane.remove("add")
    with pytest.raises(UnknownNameError) as unknown:
        plane.model("add")
    assert unknown.value.code == "unknown_model"
    assert plane.models() == []


def test_an_unknown_version_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError) as unknown:
        plane_of("1", "2").model("add", "3")
    assert (unknown.value.code, unknown.value.hint) == ("unknown_version", "it has 1, 2")


def test_metadata_names_all_versions() -> None:
    assert plane_of("2", "10", "1").metadata("add").versions == ("1", "2", "10")


def test_the_index_tells_what_is_not_ready() -> None:
    plane = plane_of("1", "2")
    asyncio.run(plane.model("add", "1").close())
    assert [(entry.version, entry.state, entry.reason) for entry in plane.index()] == [
        ("1", "UNAVAILABLE", "not ready"),
        ("2", "READY", ""),
    ]
    assert [entry.version for entry in plane.index(only_ready=True)] == ["2"]


def test_statistics_are_of_a_version_of_a_name_or_of_all() -> None:
    plane = plane_of("1", "2")
    plane.add(models.vector())
    assert [(s["name"], s["version"]) for s in plane.statistics("add", "1")] == [("add", "1")]
    assert (len(plane.statistics("add")), len(plane.statistics())) == (2, 3)
    assert DataPlane().statistics() == []
    with pytest.raises(UserError):
        plane.statistics("nope")


def test_an_input_given_twice_is_refused_before_the_model_sees_it() -> None:
    plane = plane_of("1")
    tensor = Tensor("a", "FP32", EXAMPLES["FP32"])
    with pytest.raises(UserError, match="given twice"):
        asyncio.run(plane.infer(InferRequest("add", (tensor, tensor))))


def test_outputs_come_in_the_models_order_and_each_once() -> None:
    class InTheOrderAsked(models.Small):
        async def infer(self, request: InferRequest) -> InferResponse:
            answer = await super().infer(request)
            by_name = {tensor.name: tensor for tensor in answer.outputs}
            answer.outputs = tuple(by_name[output.name] for output in request.outputs)
            return answer

    plane = DataPlane()
    plane.add(InTheOrderAsked("m", "x FP32 -1 -1", "y FP32 -1 -1; z FP32 -1 -1", lambda a: {"y": a["x"], "z": -a["x"]}))
    asked = tuple(RequestedOutput(name) for name in ("z", "y", "z"))
    answer = asyncio.run(plane.infer(InferRequest("m", (Tensor("x", "FP32", EXAMPLES["FP32"]),), outputs=asked)))
    assert [tensor.name for tensor in answer.outputs] == ["y", "z"]
