"""Turns a JSON schema as pydantic writes it into a structural schema, the only form that a Kubernetes CRD may have. Pure.

Invariants: no `$ref`; one type at each place, or none where several are allowed; no `additionalProperties` beside `properties`.
Defaults are told in the descriptions, not set: a server would write them into the stored object, where a later version's
defaults could not replace them. What is stricter in the product (an unknown key, a name that must be known) is checked there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fabric.errors import BugError

_KEPT = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "required")
# pydantic leaves these as they are where a validator stands before the constraint.
_BOUNDS = {"ge": ("minimum", False), "gt": ("minimum", True), "le": ("maximum", False), "lt": ("maximum", True),
           "exclusiveMinimum": ("minimum", True), "exclusiveMaximum": ("maximum", True)}  # fmt: skip
_OPEN = {"x-kubernetes-preserve-unknown-fields": True}


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The structural form of a whole JSON schema (`BaseModel.model_json_schema()`).

    Raises: BugError for a schema that has no structural form, such as one that contains itself.
    """
    return _converted(schema, schema.get("$defs", {}), ())


def _converted(node: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
    if reference := node.get("$ref"):
        name = str(reference).rpartition("/")[2]
        if name in inside:
            raise BugError(f"the schema of {name} contains itself: no CRD can hold it")
        return _converted({**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}, definitions, (*inside, name))
    if "anyOf" in node:
        return _either(node, definitions, inside)
    made = _plain(node)
    if "items" in node:
        made["items"] = _converted(node["items"], definitions, inside)
    if "properties" in node:
        made["properties"] = {name: _converted(part, definitions, inside) for name, part in node["properties"].items()}
    elif made.get("type") == "object":
        made |= _values(node.get("additionalProperties", True), definitions, inside)
    return _described(made if "type" in made else {**made, **_OPEN}, node)


def _plain(node: Mapping[str, Any]) -> dict[str, Any]:
    """The type of a node and its limits, in the words of OpenAPI 3.0."""
    made: dict[str, Any] = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        made["enum"] = [node["const"]]
    for key, (bound, is_exclusive) in _BOUNDS.items():
        if key in node:
            made[bound] = node[key]
            if is_exclusive:  # a flag there, a number in JSON Schema
                made[f"exclusive{bound.capitalize()}"] = True
    return made


def _values(values: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
    """Of a mapping whose keys are the user's: what its values may be."""
    if isinstance(values, Mapping):
        return {"additionalProperties": _converted(values, definitions, inside)}
    return dict(_OPEN) if values else {}


def _either(node: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
    """Null beside one type is `nullable`; a number or a text is Kubernetes' own int-or-string; anything else stays open."""
    others = [option for option in node["anyOf"] if option.get("type") != "null"]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    is_nullable = len(others) < len(node["anyOf"])
    if len(others) == 1:
        made = _converted({**others[0], **rest}, definitions, inside)
    elif {option.get("type") for option in others} <= {"integer", "number", "string"}:
        made = _described({"x-kubernetes-int-or-string": True}, rest)
    else:
        made = _described(dict(_OPEN), rest)
    return {**made, "nullable": True} if is_nullable and "type" in made else made


def _described(made: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    words = [str(node["description"])] if "description" in node else []
    default = node.get("default")
    if default is not None and default not in ({}, [], "") and not isinstance(default, dict):
        words.append(f"default: {json.dumps(default, ensure_ascii=False)}")
    return {"description": "; ".join(words), **made} if words else made
