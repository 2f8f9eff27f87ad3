"""Errors keep their code, hint and context wherever they go."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from fabric import errors
from fabric.errors import ConfigError, FabricError, NoFitError, OutOfMemory, RejectedError, UnavailableError, UnknownNameError, nearest_hint

CONTEXT = {"shortfalls": (("hot", "2 GPU short"),), "retryable": True, "asked_bytes": 7, "name": "x"}


def family(kind: type[FabricError]) -> Iterator[type[FabricError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


KINDS = [kind for kind in family(FabricError) if kind.__module__ == "fabric.errors"]


def test_the_tree_at_the_top_of_the_file_lists_every_error() -> None:
    listed = set(str(errors.__doc__).replace("├──", " ").replace("└──", " ").split())
    assert {kind.__name__ for kind in KINDS} <= listed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_crosses_processes_whole(kind: type[FabricError], protocol: int) -> None:
    error = kind("it broke", code="special", hint="mend it", **CONTEXT)
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert (str(twin), twin.message, twin.code, twin.hint, twin.context) == ("it broke", "it broke", "special", "mend it", CONTEXT)
        assert (twin.asked_bytes, twin.shortfalls) == (7, (("hot", "2 GPU short"),))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_without_extras_has_its_class_code(kind: type[FabricError]) -> None:
    error = pickle.loads(pickle.dumps(kind("it broke")))
    assert (error.code, error.hint, error.context) == (kind.code, None, {})
    assert error.render() == f"error[{kind.code}]: it broke"


def test_codes_are_stable_and_each_class_has_its_own() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


EXIT_STATUS = {
    FabricError: 1,
    errors.UserError: 2,
    ConfigError: 2,
    UnknownNameError: 2,
    RejectedError: 3,
    NoFitError: 3,
    errors.RuntimeFault: 1,
    UnavailableError: 4,
    OutOfMemory: 1,
    errors.CallTimeout: 1,
    errors.ModelError: 1,
    errors.BugError: 1,
}


def test_the_exit_status_says_whose_fault_it_was() -> None:
    assert {kind: kind.exit_status for kind in KINDS} == EXIT_STATUS


def test_the_hint_is_a_second_line() -> None:
    assert UnavailableError("gone", hint="start it").render() == "error[unavailable]: gone\nhint: start it"


def test_context_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="colour"):
        _ = FabricError("x").colour


def test_a_refusal_always_says_whether_later_may_work() -> None:
    assert (RejectedError("x").retryable, RejectedError("x").retry_after_s) == (False, None)
    later = NoFitError("x", retryable=True, retry_after_s=3.0)
    assert (later.retryable, later.retry_after_s) == (True, 3.0)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("a100-80gb", ["t4", "a100-80g", "a100-40g"], "did you mean a100-80g?"),
        ("HOT", ["hot", "cold"], "did you mean hot?"),
        ("xyzzy", ["hot", "cold"], "known: cold, hot"),
        ("anything", [], "known: none"),
    ],
)
def test_the_hint_for_an_unknown_name_is_the_nearest_or_all(name: str, known: list[str], hint: str) -> None:
    assert nearest_hint(name, known) == hint


def test_an_unknown_name_carries_the_noun_in_its_code() -> None:
    error = UnknownNameError.of("task option", "num_gpu", ["num_gpus"])
    assert (error.code, error.name, str(error)) == ("unknown_task_option", "num_gpu", "unknown task option 'num_gpu'")


def test_listeners_hear_of_errors_that_arrive_and_not_of_those_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[FabricError] = []
    monkeypatch.setattr(errors, "listeners", [heard.append])
    sent = pickle.dumps(OutOfMemory("x", task="t"))
    assert heard == []
    pickle.loads(sent)
    assert [error.context for error in heard] == [{"task": "t"}]
