"""The two kinds that the fabric adds to a Kubernetes cluster, as CustomResourceDefinitions made from the models that read them.

`TaskScheduler` is fabric.yaml, `HybridPolicy` the policy. The committed manifests are what this prints; a test says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from fabric.config import FabricConfig
from fabric.errors import UnknownNameError
from fabric.kubernetes.structural import structural
from fabric.kubernetes.task_scheduler import API_VERSION, KIND
from fabric.policy_schema import API_VERSION as POLICY_API_VERSION
from fabric.policy_schema import KIND as POLICY_KIND
from fabric.policy_schema import Spec


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its names, the model of its `spec`, what it is for, and the columns of `kubectl get`: title -> (type, path)."""

    kind: str
    plural: str
    api_version: str
    spec: type[BaseModel]
    about: str
    columns: dict[str, tuple[str, str]]

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.api_version.partition('/')[0]}"


KINDS = (
    Kind(
        KIND,
        "taskschedulers",
        API_VERSION,
        FabricConfig,
        "The settings of a fabric: the keys of fabric.yaml under spec. metadata.name is the fabric's name where spec gives none.",
        {"Queue": ("string", ".spec.queue"), "Storage": ("string", ".spec.storage_url")},
    ),
    Kind(
        POLICY_KIND,
        "hybridpolicies",
        POLICY_API_VERSION,
        Spec,
        "Who goes first and who may hold how much: what `fabric policy apply` reads.",
        {"Objective": ("string", ".spec.objective"), "Fallback": ("string", ".spec.fallbackStrategy")},
    ),
)


def kind_named(word: str) -> Kind:
    """By kind, plural or full name, in any case. Raises: UnknownNameError (`unknown_kind`)."""
    for kind in KINDS:
        if word.lower() in (kind.kind.lower(), kind.plural, kind.name):
            return kind
    raise UnknownNameError.of("kind", word, [kind.kind for kind in KINDS])


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind, `apiextensions.k8s.io/v1`."""
    group, _, version = kind.api_version.partition("/")
    age = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    columns = [{"name": title, "type": type_, "jsonPath": path} for title, (type_, path) in kind.columns.items()]
    schema = {
        "description": kind.about,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec.model_json_schema(by_alias=True)),
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.name},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind.kind, "listKind": f"{kind.kind}List", "plural": kind.plural, "singular": kind.kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [*columns, age],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def as_yaml(kinds: tuple[Kind, ...] = KINDS) -> str:
    """All documents, one after the other, as `kubectl apply -f -` takes them. Always the same text."""
    return yaml.safe_dump_all((definition(kind) for kind in kinds), sort_keys=False, allow_unicode=True, width=140)
