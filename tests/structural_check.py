"""What Kubernetes asks of the schema in a CustomResourceDefinition, and that schema made into one that `jsonschema` reads.

Source: kubernetes.io, "Extend the Kubernetes API with CustomResourceDefinitions", sections "Specifying a structural schema" and
"Field pruning". No library checks this form outside of an API server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

TYPES = {"object", "array", "string", "integer", "number", "boolean"}
KNOWN = {
    "type", "description", "properties", "additionalProperties", "items", "required", "enum", "pattern", "nullable", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
}  # fmt: skip
_UNTYPED = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")


def faults_of(schema: Mapping[str, Any]) -> list[str]:
    """What is not structural in it: `spec.user: has no type`."""
    return list(_faults(schema, ""))


def _faults(node: Mapping[str, Any], place: str) -> Iterator[str]:
    where = place or "the root"
    for key in sorted(node.keys() - KNOWN):
        yield f"{where}: {key} is not allowed"
    yield from (f"{where}: {fault}" for fault in _own_faults(node, place))
    properties = node.get("properties", {})
    for name, part in properties.items():
        yield from _faults(part, f"{place}.{name}" if place else name)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), Mapping):
            yield from _faults(node[key], f"{place}[]")


def _own_faults(node: Mapping[str, Any], place: str) -> Iterator[str]:
    kind = node.get("type")
    if kind is None and not any(node.get(mark) for mark in _UNTYPED):
        yield "has no type"
    if kind is not None and (not isinstance(kind, str) or kind not in TYPES):
        yield "type is not one word"
    if kind is None and node.get("nullable"):
        yield "nullable needs a type"
    if kind is not None and node.get("x-kubernetes-int-or-string"):
        yield "int-or-string beside a type"
    if "additionalProperties" in node and ("properties" in node or not isinstance(node["additionalProperties"], Mapping)):
        yield "additionalProperties beside properties, or not a schema"
    if kind == "array" and not isinstance(node.get("items"), Mapping):
        yield "items is not one schema"
    yield from (f"{key} is a flag" for key in ("exclusiveMinimum", "exclusiveMaximum") if not isinstance(node.get(key, True), bool))
    if place == "" and kind != "object":
        yield "the root is not an object"
    if place.startswith("metadata.") and place not in ("metadata.name", "metadata.generateName"):
        yield "only name and generateName may be restricted"


def validator_of(schema: Mapping[str, Any]) -> jsonschema.Draft4Validator:
    """Draft 4, in which `exclusiveMinimum` is a flag as it is in OpenAPI 3.0. What the schema would prune is refused:
    `kubectl apply` refuses it too (strict field validation).
    """
    return jsonschema.Draft4Validator(_closed(schema))


def _closed(node: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(node)
    if "properties" in made:
        made["properties"] = {name: _closed(part) for name, part in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), Mapping):
            made[key] = _closed(made[key])
    is_open = made.pop("x-kubernetes-preserve-unknown-fields", False)
    if made.get("type") == "object" and "properties" in made and not is_open:
        made["additionalProperties"] = False
    if made.pop("x-kubernetes-int-or-string", False):
        made["type"] = ["integer", "string"]
    if made.pop("nullable", False):
        made["type"] = [made["type"], "null"]
    return made
