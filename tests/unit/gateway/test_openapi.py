"""The OpenAPI document, and the page of it."""

from __future__ import annotations

import json
import re
from typing import Any

from serve_apps.gateway.docs_page import CONTENT_POLICY, docs_page
from serve_apps.gateway.openapi import openapi_document
from serve_apps.oip.routes import route_of


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere_and_every_body_is_used() -> None:
    document = json.loads(json.dumps(openapi_document("1")))
    named = {reference.rpartition("/")[2] for reference in references(document)}
    assert named == set(document["components"]["schemas"])


def test_every_route_of_the_protocol_is_in_it_with_its_methods() -> None:
    for path, operations in openapi_document("1")["paths"].items():
        route = route_of(re.sub(r"{\w+}", "x", path))
        if route is not None:
            assert {method.upper() for method in operations} - {"PARAMETERS"} == set(route.methods) - {"HEAD"}


def test_every_name_in_a_path_is_declared() -> None:
    for path, operations in openapi_document("1")["paths"].items():
        declared = {parameter["name"] for parameter in operations.get("parameters", ())}
        assert declared == set(re.findall(r"{(\w+)}", path))


def test_the_page_loads_nothing_and_names_every_route() -> None:
    page = docs_page(openapi_document("<1>"))
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#|/openapi.json)", page)
    assert "&lt;1&gt;" in page
    assert "default-src 'none'" in CONTENT_POLICY
    for path in openapi_document("1")["paths"]:
        assert path in page
