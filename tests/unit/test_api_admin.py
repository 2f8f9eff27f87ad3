"""The pages of the policy, of tokens and of the API itself: for admins, documented, and a bad policy changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fabric.api.schema import Minted, SubmitRequest, TokenAnswer
from fabric.api.tokens import SCOPES
from tests.api_world import World, a_world
from tests.jobs import BALANCED


@pytest.fixture
def world(tmp_path: Any) -> Iterator[World]:
    with a_world(tmp_path, runs=False) as made:
        yield made


def ask(
    world: World, method: str, path: str, body: bytes | None = None, user: str = "root", kind: str = "application/json"
) -> tuple[int, Any]:
    reply = world.ask(user, method, path, body, **{"Content-Type": kind})
    return reply.status, json.loads(reply.body)


def test_a_policy_is_applied_shown_listed_and_rolled_back(world: World) -> None:
    assert ask(world, "PUT", "/v1/policy", BALANCED.encode(), kind="application/yaml") == (200, {"version": 2})
    assert world.plane.core.book.policy.classes[0].weight == 3.0
    _, shown = ask(world, "GET", "/v1/policy", user="ann")
    assert (shown["version"], shown["by"], shown["document"]) == (2, "root", yaml.safe_load(BALANCED))
    assert ask(world, "PUT", "/v1/policy", json.dumps({**yaml.safe_load(BALANCED), "metadata": {"name": "third"}}).encode())[1] == {
        "version": 3
    }
    assert ask(world, "POST", "/v1/policy/rollback") == (200, {"version": 4})
    assert world.plane.core.book.policy.name == "cpu-memory-balanced"
    assert ask(world, "POST", "/v1/policy/rollback", b'{"version": 3}')[1] == {"version": 5}
    _, history = ask(world, "GET", "/v1/policy/history", user="ann")
    assert [each["version"] for each in history["versions"]] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (BALANCED.replace("weight: 3", "wieght: 3").encode(), "application/yaml", "unknown_policy_key"),
        (b"a: [", "application/yaml", "policy_not_yaml"),
        (b"\xff\xfe\xfa", "application/yaml", "bad_policy"),
        (b"[1]", "application/json", "bad_policy"),
        (b"{", "application/json", "bad_policy"),
        (b"", "application/yaml", "bad_policy"),
        (BALANCED.encode() + b"#" * 2**20, "application/yaml", "too_large"),
    ],
)
def test_a_bad_policy_is_refused_and_the_old_one_stays(world: World, body: bytes, kind: str, code: str) -> None:
    before = world.plane.core.book.policy
    status, answer = ask(world, "PUT", "/v1/policy", body, kind=kind)
    assert (answer["code"], status) == (code, 413 if code == "too_large" else 400)
    assert world.plane.core.book.policy is before and len(world.plane.policy_history()) == 1


def test_only_an_admin_changes_the_policy_or_sees_tokens(world: World) -> None:
    pages = [
        ("PUT", "/v1/policy"),
        ("POST", "/v1/policy/rollback"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/tokens"),
        ("DELETE", "/v1/tokens/x"),
    ]
    for user in ("ann", "bob", "ops"):
        for method, path in pages:
            status, answer = ask(world, method, path, b"{}", user=user)
            assert (status, answer["code"]) == (403, "forbidden"), (user, path)
    status, answer = ask(world, "POST", "/v1/policy/rollback", b'{"version": 77}')
    assert (status, answer["code"]) == (404, "unknown_policy_version")


def test_a_token_is_made_shown_once_used_and_revoked(world: World) -> None:
    status, made = ask(
        world, "POST", "/v1/tokens", b'{"user": "zoe", "scopes": ["submit"], "queues": ["default"], "expires": "30d", "note": "ci"}'
    )
    Minted.model_validate(made)
    assert status == 201 and made["token"].startswith(f"tf_{made['id']}_") and made["created_by"] == "root"
    assert made["expires_s"] - made["created_s"] == pytest.approx(30 * 86400)
    status, answer = ask(world, "POST", "/v1/jobs", b'{"command": "true"}', user=made["token"])
    assert status == 201 and world.plane.job(answer["ids"][0][0]).user == "zoe"
    _, listed = ask(world, "GET", "/v1/tokens")
    assert made["token"].split("_", 2)[2] not in json.dumps(listed)
    for each in listed["tokens"]:
        TokenAnswer.model_validate(each)
    assert ask(world, "DELETE", f"/v1/tokens/{made['id']}")[1]["revoked_s"] is not None
    assert ask(world, "GET", "/v1/jobs", user=made["token"])[0] == 401
    assert ask(world, "DELETE", "/v1/tokens/nope")[0] == 404


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"user": "a b"}', b'{"user": "zoe", "scopes": []}', b'{"user": "zoe", "scopes": ["root"]}', b'{"user": "zoe", "scope": "x"}'],
)
def test_a_token_that_makes_no_sense_is_refused(world: World, body: bytes) -> None:
    before = len(world.tokens.listed())
    assert ask(world, "POST", "/v1/tokens", body)[0] == 400
    assert len(world.tokens.listed()) == before


def test_the_openapi_document_has_every_page_with_its_keys(world: World) -> None:
    document = json.loads(world.ask(None, "GET", "/v1/openapi.json").body)
    pages = {(path, method) for path, methods in document["paths"].items() for method in methods}
    of_jobs = {(path, method) for path, method in pages if not path.startswith("/v1/registry/")}
    expected = {
        ("/v1/jobs", "post"), ("/v1/jobs", "get"), ("/v1/jobs/{job}", "get"),
        ("/v1/efficiency", "get"), ("/v1/jobs/{job}/efficiency", "get"),
        ("/v1/jobs/{job}/priority", "post"), ("/v1/usage/export", "get"),
        ("/v1/policy/what-if", "post"), ("/v1/policy/what-if/{what_if_id}", "get"), ("/v1/policy/what-if/{what_if_id}/cancel", "post"),
        ("/v1/jobs/{job}/cancel", "post"), ("/v1/jobs/{job}/explain", "get"),
        ("/v1/jobs/{job}/logs", "get"), ("/v1/jobs/{job}/result", "get"), ("/v1/jobs/{job}/wait", "get"), ("/v1/jobs/{job}/story", "get"),
        ("/v1/plan", "post"), ("/v1/usage", "get"), ("/v1/policy", "get"), ("/v1/policy", "put"), ("/v1/policy/history", "get"),
        ("/v1/policy/rollback", "post"), ("/v1/artefacts", "put"), ("/v1/artefacts/{digest}", "head"), ("/v1/tokens", "post"),
        ("/v1/tokens", "get"), ("/v1/tokens/{token_id}", "delete"), ("/v1/health", "get"),
        ("/v1/rollouts", "get"), ("/v1/rollouts", "post"), ("/v1/rollouts/{name}", "get"), ("/v1/rollouts/{name}/{order}", "post"),
        ("/v1/rollouts/{name}/rollback", "post"), ("/v1/experiments", "get"), ("/v1/experiments", "post"),
        ("/v1/experiments/{name}", "get"), ("/v1/experiments/{name}/stop", "post"),
        *((f"/v1/nodes/{{node}}/{order}", "post") for order in ("cordon", "uncordon", "drain")),
        ("/v1/models", "get"), ("/v1/models/{name}", "get"), ("/v1/models/{name}", "delete"), ("/v1/models/{name}/logs", "get"),
    }  # fmt: skip
    assert of_jobs == expected
    for path, method in pages - {("/v1/health", "get")}:
        page = document["paths"][path][method]
        assert page["security"] == [{"token": []}] and page["description"] and {"4XX", "5XX"} <= set(page["responses"]), path
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"][0]
    assert set(body["properties"]) == set(SubmitRequest.model_fields)
    assert {each["name"] for each in document["paths"]["/v1/jobs"]["get"]["parameters"]} == {
        "queue",
        "user",
        "state",
        "mine",
        "array",
        "limit",
    }
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_an_artefact_that_is_too_large_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.api.exchange.Exchange.spooled.__defaults__", (1000,))
    assert ask(world, "PUT", "/v1/artefacts", b"x" * 1001)[0] == 413
    assert world.blobs() == []
    assert ask(world, "PUT", "/v1/artefacts", b"x" * 1000)[0] == 201
    assert len(world.blobs()) == 1


def test_the_page_of_the_api_names_every_page_every_key_of_a_job_and_every_scope(world: World) -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    told = {(path.replace("{id}", "{token_id}"), method.lower()) for method, path in re.findall(r"`([A-Z]+) (/v1/[^`]+)`", text)}
    document = world.app.openapi()
    assert told == {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert [key for key in (*SubmitRequest.model_fields, *SCOPES) if f"`{key}`" not in text] == []
