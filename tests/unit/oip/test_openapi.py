"""The OpenAPI document says what is there: its routes, its references, and the statuses that requests get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from serve_apps.oip import routes
from serve_apps.oip.openapi import document
from tests.unit.oip import models
from tests.unit.oip.server import Server

DOCUMENT = document()
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items() if method != "parameters"
]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_to_a_schema() -> None:
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= schemas


@pytest.mark.parametrize(("path", "method"), [(path, method) for path, method, _ in OPERATIONS])
def test_every_documented_route_is_there(path: str, method: str) -> None:
    route = routes.route_of(path.replace("{model}", "m").replace("{version}", "1"))
    assert route is not None
    assert method.upper() in route.methods


def test_every_route_for_clients_is_documented() -> None:
    documented = {routes.route_of(path.replace("{model}", "m").replace("{version}", "1")).kind for path, _, _ in OPERATIONS}  # type: ignore[union-attr]
    tables = [*routes._SERVER.values(), *(routes.Route(*kind) for kind in [*routes._MODEL.values(), *routes._SIMPLE.values()])]
    assert {route.kind for route in tables if not route.kind.startswith("grpc")} <= documented


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_what_comes_back_was_declared(path: str, method: str, operation: Any) -> None:
    server = Server(models.everything())
    for model in ("add", "shout", "count", "nope"):
        for body in (b"", b"{}", b"[]", b"{", json.dumps({"inputs": []}).encode(), json.dumps({"text_input": "a"}).encode()):
            reply = server.call(method.upper(), path.replace("{model}", model).replace("{version}", "2"), body, {})
            assert str(reply.status) in operation["responses"], reply.body
