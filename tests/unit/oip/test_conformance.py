"""The conformance kit passes our server, and each defect of a server fails the check that is meant for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve_apps.execution.build import build_served_model
from serve_apps.oip.conformance.catalogue import CATALOGUE, chosen
from serve_apps.oip.conformance.check import RECOMMENDED, ROBUSTNESS, Finding
from serve_apps.oip.conformance.report import as_document, as_table, exit_status
from serve_apps.oip.conformance.target import Target
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp
from tests.foreign.services import Add, EchoText, Failing, Words, identity
from tests.unit.oip.conform import InProcess, findings

IDENTITIES = ("identity_*", "vector", "echo_text")


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def app(loop: asyncio.AbstractEventLoop) -> Iterator[RestApp]:
    """Real services behind the real data plane: each runs as it would in a replica."""
    services = {
        f"identity_{name.lower()}": identity(name, None, None) for name in ("BOOL", "INT8", "INT64", "UINT64", "FP16", "FP32", "BYTES")
    }
    services |= {"vector": identity("FP32", None), "add": Add(), "echo_text": EchoText(), "words": Words(), "failing": Failing()}
    plane = DataPlane("tierfabric", "0")

    async def fill() -> None:
        for name, service in services.items():
            plane.add(build_served_model(service, name, "1"))

    async def empty() -> None:
        for model in plane.models():
            await model.close()

    loop.run_until_complete(fill())
    yield RestApp(plane)
    loop.run_until_complete(empty())


def failed(found: dict[str, Finding]) -> dict[str, str]:
    return {name: f"expected {each.expected}, got {each.got}" for name, each in found.items() if each.verdict == "fail"}


def test_our_server_fails_no_check(app: RestApp, loop: asyncio.AbstractEventLoop) -> None:
    found = findings(app, loop, identities=IDENTITIES)
    # A replica alone has no repository to load from: 501. The gateway has one.
    assert failed(found) == {name: each for name, each in failed(found).items() if name == "repository.load_unknown_4xx"}
    skipped = {name for name, each in found.items() if each.verdict == "skip" and not name.startswith(("grpc", "json", "binary"))}
    assert skipped == set()
    assert exit_status(list(found.values())) == 0


Defect = Callable[[str, dict[str, Any]], Any]


def inside(change: Callable[[dict[str, Any]], None]) -> Defect:
    """A defect of inference answers: `change` edits the document in place."""

    def changed(path: str, document: dict[str, Any]) -> Any:
        if path.endswith("/infer") and "outputs" in document:
            change(document)
        return document

    return changed


def drop_id(document: dict[str, Any]) -> None:
    document.pop("id", None)


def invent_an_id(document: dict[str, Any]) -> None:
    document.setdefault("id", "invented")


def lose_digits(document: dict[str, Any]) -> None:
    for tensor in document["outputs"]:
        if tensor["datatype"] == "INT64":
            tensor["data"] = [int(float(value)) for value in tensor["data"]]


def wrong_datatype(document: dict[str, Any]) -> None:
    for tensor in document["outputs"]:
        tensor["datatype"] = "FP64" if tensor["datatype"] == "FP32" else tensor["datatype"]


def one_too_many(document: dict[str, Any]) -> None:
    document["outputs"].append({**document["outputs"][0], "name": "more"})


def numbers_for_booleans(document: dict[str, Any]) -> None:
    for tensor in document["outputs"]:
        tensor["data"] = [int(value) if isinstance(value, bool) else value for value in tensor["data"]]


def short(document: dict[str, Any]) -> None:
    document["outputs"][0]["data"] = document["outputs"][0]["data"][:-1]


def detail_for_error(_path: str, document: dict[str, Any]) -> Any:
    return {"detail": document["error"]} if "error" in document else document


def no_platform(path: str, document: dict[str, Any]) -> Any:
    document.pop("platform", None)
    return document


def stale_statistics(path: str, document: dict[str, Any]) -> Any:
    for stat in document.get("model_stats", ()):
        stat["inference_stats"]["success"]["count"] = 7
    return document


DEFECTS: dict[str, tuple[Defect, str]] = {
    "the id is lost": (inside(drop_id), "infer.id"),
    "an id is invented": (inside(invent_an_id), "infer.no_id"),
    "integers go through floats": (inside(lose_digits), "json.int64_flat"),
    "another datatype than the metadata say": (inside(wrong_datatype), "json.fp32_nested"),
    "an output that nobody asked for": (inside(one_too_many), "infer.requested_outputs"),
    "1 for true": (inside(numbers_for_booleans), "json.bool_flat"),
    "fewer elements than the shape says": (inside(short), "infer.answers"),
    "FastAPI's error body": (detail_for_error, "errors.not_json"),
    "metadata without a platform": (no_platform, "metadata.model"),
    "statistics that do not count": (stale_statistics, "statistics.counts"),
}


def with_defect(app: RestApp, defect: Defect) -> Any:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        messages: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            messages.append(message)

        await app(scope, receive, keep)
        start, body = messages[0], b"".join(each.get("body") or b"" for each in messages[1:])
        headers = dict(start["headers"])
        if headers.get(b"content-type") == b"application/json" and body:
            document = json.loads(body)
            body = json.dumps(defect(scope["path"], document) if isinstance(document, dict) else document).encode()
            headers[b"content-length"] = str(len(body)).encode()
        await send({**start, "headers": list(headers.items())})
        await send({"type": "http.response.body", "body": body})

    return broken


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found(name: str, app: RestApp, loop: asyncio.AbstractEventLoop) -> None:
    defect, check = DEFECTS[name]
    assert failed(findings(app, loop, (check,), IDENTITIES)) == {}
    assert list(failed(findings(with_defect(app, defect), loop, (check,), IDENTITIES))) == [check]


def test_a_failure_carries_its_request_and_answer(app: RestApp, loop: asyncio.AbstractEventLoop) -> None:
    found = findings(with_defect(app, DEFECTS["the id is lost"][0]), loop, ("infer.id",), IDENTITIES)["infer.id"]
    assert (found.expected, found.got) == ("id '42'", "None")
    assert found.exchange.startswith("POST /v2/models/")
    assert '-> 200 {"model_name"' in found.exchange


def test_the_report_fits_the_terminal_and_counts_each_level(app: RestApp, loop: asyncio.AbstractEventLoop) -> None:
    found = list(findings(with_defect(app, DEFECTS["the id is lost"][0]), loop, ("infer.*", "grpc.server_live"), IDENTITIES).values())
    target = Target(InProcess(app, loop))
    table = as_table(target, found, is_verbose=True, width=80).splitlines()
    rows = [line for line in table if line.startswith(("✓", "✗", "-  "))]
    assert max(len(line) for line in rows) <= 80
    document = as_document(target, found)
    assert document["summary"]["required"]["fail"] >= 1
    assert document["conforms"] is False
    assert sum(document["summary"]["required"].values()) == sum(each.check.level == "required" for each in found)


def test_only_what_counts_ends_with_a_failure() -> None:
    def of(level: str, verdict: str) -> Finding:
        return Finding(next(check for check in CATALOGUE if check.level == level), verdict)

    assert exit_status([of("required", "fail")]) == 1
    assert exit_status([of(RECOMMENDED, "fail"), of("required", "skip")]) == 0
    assert exit_status([of(RECOMMENDED, "fail")], is_strict=True) == 1
    assert exit_status([of("extension:statistics", "fail")]) == 1


def test_ids_are_unique_and_every_check_says_what_it_says() -> None:
    assert len({check.id for check in CATALOGUE}) == len(CATALOGUE)
    assert [check.id for check in CATALOGUE if not check.says or not check.section] == []


def test_what_may_end_a_server_runs_last_and_only_when_asked_for() -> None:
    assert all(check.level != ROBUSTNESS for check in chosen(()))
    assert [check.level for check in chosen((), is_robust=True)][-3:] == [ROBUSTNESS] * 3
    assert [check.id for check in chosen(("errors.huge_shape",))] == ["errors.huge_shape"]
    assert {check.id.partition(".")[0] for check in chosen(("health", "metadata"))} == {"health", "metadata"}
    assert all(check.level == "required" for check in chosen(("required",), ("errors",)))
