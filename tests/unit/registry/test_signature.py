"""When one model can take another's place, and how versions are named."""

from __future__ import annotations

import pytest

from fabric.errors import RejectedError, UserError
from fabric.registry.names import Ref, parse_aliases, parse_ref
from fabric.registry.signature import Signature, check_same, differences
from fabric.tensor_spec import TensorSpec

X, Y = TensorSpec("x", "FP32", (-1, 3)), TensorSpec("y", "FP32", (-1, 10))
OLD = Signature((X,), (Y,))


@pytest.mark.parametrize(
    ("new", "sentences"),
    [
        (OLD, []),
        (Signature((TensorSpec("x", "FP32", (-1, -1)),), (Y,)), []),
        (Signature((X, TensorSpec("mask", "BOOL", (-1,), True)), (Y, TensorSpec("extra", "FP32", (1,)))), []),
        (Signature((), (Y,)), ["input 'x' is missing"]),
        (Signature((X, TensorSpec("mask", "BOOL", (-1,))), (Y,)), ["input 'mask' is new, and must be given"]),
        (Signature((X,), ()), ["output 'y' is missing"]),
        (Signature((TensorSpec("x", "FP16", (-1, 3)),), (Y,)), ["input 'x' changed its datatype from FP32 to FP16"]),
        (Signature((TensorSpec("x", "FP32", (-1, 4)),), (Y,)), ["dimension 1 of input 'x' was 3 and is 4"]),
        (Signature((TensorSpec("x", "FP32", (1, 3)),), (Y,)), ["dimension 0 of input 'x' was any and is 1"]),
        (Signature((X,), (TensorSpec("y", "FP32", (-1, -1)),)), ["dimension 1 of output 'y' was 10 and is any"]),
        (Signature((TensorSpec("x", "FP32", (3,)),), (Y,)), ["input 'x' had 2 dimensions and has 1"]),
    ],
)
def test_a_candidate_must_take_what_the_champion_takes_and_give_what_it_gives(new: Signature, sentences: list[str]) -> None:
    assert differences(OLD, new) == sentences


def test_an_output_of_any_size_promised_none_and_what_is_not_known_is_not_compared() -> None:
    assert differences(Signature((X,), (TensorSpec("y", "FP32", (-1, -1)),)), OLD) == []
    assert differences(None, OLD) == differences(OLD, None) == []


def test_an_input_that_could_be_left_out_must_stay_so() -> None:
    optional = Signature((TensorSpec("x", "FP32", (-1, 3), True),), (Y,))
    assert differences(optional, OLD) == ["input 'x' may no longer be left out"] and differences(OLD, optional) == []


def test_a_difference_is_a_refusal_that_names_the_way_out() -> None:
    with pytest.raises(RejectedError) as raised:
        check_same(OLD, Signature((X,), ()), names=("resnet:2", "resnet:3"))
    assert raised.value.code == "signature_differs" and "--allow-signature-change" in str(raised.value.hint)
    assert raised.value.message == "resnet:3 cannot take the place of resnet:2: output 'y' is missing"


def test_refs_and_aliases_are_read_as_people_write_them() -> None:
    assert parse_ref("resnet") == Ref("resnet", "latest") and parse_ref("resnet:3") == Ref("resnet", "3")
    assert parse_ref("resnet:champion").word == "champion"
    assert parse_aliases(["champion=2", "old="]) == {"champion": 2, "old": None}


@pytest.mark.parametrize("text", ["", "Res", "resnet:", "resnet:0", "resnet:3.1", "resnet:-1", "resnet:99999999999", "resnet:3:4"])
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_ref(text)


@pytest.mark.parametrize(
    ("words", "code"), [(["champion"], "bad_alias"), (["a=1", "a=2"], "duplicate_alias"), (["a=x"], "bad_version"), (["2=1"], "bad_alias")]
)
def test_aliases_that_make_no_sense_are_refused(words: list[str], code: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_aliases(words)
    assert raised.value.code == code
