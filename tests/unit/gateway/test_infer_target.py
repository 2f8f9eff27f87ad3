"""The model's name out of a serialized message, as protobuf itself would read it."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from fabric.errors import UserError
from serve_apps.gateway.infer_target import infer_target
from serve_apps.oip.messages import ModelInferRequest


def message(name: str = "", version: str = "", **more: object) -> bytes:
    request = ModelInferRequest(model_name=name, model_version=version, **more)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 300]).parameters["binary"].bool_param = True
    request.raw_input_contents.append(bytes(1200))
    return bytes(request.SerializeToString())


@given(name=st.text(max_size=300), version=st.text(max_size=5), id=st.text(max_size=5))
def test_name_and_version_are_what_protobuf_reads(name: str, version: str, id: str) -> None:
    assert infer_target(message(name, version, id=id)) == (name, version)


@given(parts=st.permutations([message("first", "1"), message("second"), message("", "2"), message(id="x")]))
def test_of_a_field_that_stands_twice_the_last_one_holds(parts: list[bytes]) -> None:
    joined = b"".join(parts)
    read = ModelInferRequest.FromString(joined)
    assert infer_target(joined) == (read.model_name, read.model_version)


@given(st.binary(max_size=40))
def test_what_protobuf_takes_is_taken_and_means_the_same(content: bytes) -> None:
    try:
        read = ModelInferRequest.FromString(content)
    except DecodeError:
        return
    try:
        found = infer_target(content)
    except UserError:
        # Groups, which nobody has written since proto2: protobuf steps over them.
        assert any(byte & 7 in (3, 4) for byte in content)
        return
    assert found == (read.model_name, read.model_version)


@pytest.mark.parametrize(
    "content",
    [b"\x0a", b"\x0a\x05ab", b"\x0a\x80", b"\x0a\x01\xff", b"\x00\x01", b"\x0e\x01", b"\xff" * 11, b"\x18\x01" * 5000],
    ids=["no length", "too short", "half a number", "no UTF-8", "field 0", "no wire type", "endless number", "too many fields"],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(UserError) as caught:
        infer_target(content)
    assert caught.value.code == "bad_protobuf"
