"""The fabric's own kinds: what the definitions allow is what the product reads, and they are such as Kubernetes takes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from fabric.cli.main import cli
from fabric.config import FabricConfig, load_config
from fabric.errors import BugError, ConfigError, FabricError, UnknownNameError
from fabric.kubernetes.crd import KINDS, as_yaml, definition, kind_named
from fabric.kubernetes.structural import structural
from fabric.kubernetes.task_scheduler import METADATA
from fabric.policy_document import read_policy
from fabric.policy_schema import Metadata
from pools.flavors import load_catalogue
from tests.structural_check import faults_of, validator_of

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "cluster_configs"
KUBERNETES = "1.30"
DEFINITIONS = {kind.kind: definition(kind) for kind in KINDS}
HEADER = "apiVersion: example.com/v1\nkind: TaskScheduler\n"


def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def loaded(tmp_path: Path, text: str) -> FabricConfig:
    file = tmp_path / "fabric.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ={}).config


# -- the definitions -------------------------------------------------------------------------------------------------------


def test_the_committed_definitions_are_what_the_models_give() -> None:
    committed = (CONFIGS / "kuberay" / "crds.yaml").read_text(encoding="utf-8")
    assert committed.partition("\n")[2] == as_yaml(), "fabric config crd prints them"


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_a_definition_is_one_that_kubernetes_takes(kind: str) -> None:
    kubernetes_validate.validate(DEFINITIONS[kind], KUBERNETES, strict=True)
    assert faults_of(schema_of(kind)) == []


def test_the_names_are_those_that_kubectl_is_asked_by() -> None:
    assert {found["metadata"]["name"] for found in DEFINITIONS.values()} == {
        "taskschedulers.example.com",
        "hybridpolicies.scheduling.example.com",
    }
    assert kind_named("hybridpolicies").kind == kind_named("HYBRIDPOLICY").kind == "HybridPolicy"
    with pytest.raises(UnknownNameError, match="unknown kind 'HybridPolice'") as caught:
        kind_named("HybridPolice")
    assert caught.value.hint == "did you mean HybridPolicy?"


def test_every_setting_is_in_the_definition_and_none_is_set_by_it() -> None:
    assert list(schema_of("TaskScheduler")["properties"]["spec"]["properties"]) == list(FabricConfig.model_fields)
    assert "default:" not in "".join(line.strip() + "\n" for line in as_yaml().splitlines() if line.strip().startswith("default:"))


def test_the_command_prints_both_or_the_one_that_is_named() -> None:
    both = CliRunner().invoke(cli, ["config", "crd"])
    assert (both.exit_code, both.output) == (0, as_yaml())
    one = CliRunner().invoke(cli, ["config", "crd", "taskscheduler"])
    assert yaml.safe_load(one.output) == DEFINITIONS["TaskScheduler"]


# -- what the definitions let in is what the product reads -----------------------------------------------------------------

POLICIES = sorted((CONFIGS / "policies").glob("*.yaml"))


@pytest.mark.parametrize("file", POLICIES, ids=[file.stem for file in POLICIES])
def test_every_policy_passes_the_definition(file: Path) -> None:
    validator_of(schema_of("HybridPolicy")).validate(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("TaskScheduler", {"routing": {"waiting_usd_per_h": "much"}}),
        ("TaskScheduler", {"routing": {"refresh_s": 0.01}}),
        ("TaskScheduler", {"api": {"port": 70000}}),
        ("TaskScheduler", {"tiers": [{"name": "Hot"}]}),
        ("TaskScheduler", {"tiers": [{"task_share": 0.5}]}),
        ("TaskScheduler", {"twin": {"cold": {"cpus": 0}}}),
        ("TaskScheduler", {"serving": {"require_token": "maybe"}}),
        ("TaskScheduler", {"flavors": {"a100-80g": 2.1}}),
        ("HybridPolicy", {"objective": "speed"}),
        ("HybridPolicy", {"patience": [5]}),
        ("HybridPolicy", {"queues": [{"name": "a", "nominalQuota": {"gpu": -1}}]}),
        ("HybridPolicy", {"queues": [{"name": "a", "weight": 0}]}),
        ("HybridPolicy", {"priorityClasses": [{"weight": 1}]}),
    ],
)
def test_what_the_definition_refuses_the_product_refuses_too(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    document = {"apiVersion": kind_named(kind).api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    with pytest.raises(jsonschema.ValidationError):
        validator_of(schema_of(kind)).validate(document)
    with pytest.raises(FabricError):
        if kind == "HybridPolicy":
            read_policy(document, catalogue=load_catalogue())
        else:
            loaded(tmp_path, yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("TaskScheduler", {}),
        ("TaskScheduler", {"twin": {"warm": {"slowdown": 2}}, "journal_url": None, "flavors": {"a100-80g": {"usd_per_h": 2.1}}}),
        ("TaskScheduler", {"devices": [{"kind": "fpga", "name": "Alveo U250", "count": 2}], "serving": {"grpc_port": 9001}}),
        ("HybridPolicy", {"patience": "30m", "usageHalfLifeTime": 3600}),
        (
            "HybridPolicy",
            {"queues": [{"name": "a", "cohort": "c", "nominalQuota": {"gpu": 4}, "borrowingLimit": 2, "lendingLimit": {"gpu": 1}}]},
        ),
        ("HybridPolicy", {"queues": [{"name": "a", "budget": {"usd": 5, "period": "7d"}, "maxUnitsPerUser": 0.5}]}),
    ],
)
def test_what_the_definition_lets_in_the_product_reads(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    document = {"apiVersion": kind_named(kind).api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    validator_of(schema_of(kind)).validate(document)
    if kind == "HybridPolicy":
        assert read_policy(document, catalogue=load_catalogue()).name == "x"
    else:
        assert loaded(tmp_path, yaml.safe_dump(document)).name == "x"


# -- the structural form ---------------------------------------------------------------------------------------------------


class Leaf(BaseModel):
    number: float | None = None
    what: Any = None


class Tree(BaseModel):
    leaves: dict[str, Leaf] = {}
    either: int | str = 1
    mixed: int | list[int] = 1
    free: dict[str, Any] = {}


class Endless(BaseModel):
    below: Endless | None = None


def test_a_schema_becomes_structural() -> None:
    assert structural(Tree.model_json_schema()) == {
        "type": "object",
        "properties": {
            "leaves": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "number": {"type": "number", "nullable": True},
                        "what": {"x-kubernetes-preserve-unknown-fields": True},
                    },
                },
            },
            "either": {"description": "default: 1", "x-kubernetes-int-or-string": True},
            "mixed": {"description": "default: 1", "x-kubernetes-preserve-unknown-fields": True},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }


def test_a_schema_that_contains_itself_has_no_structural_form() -> None:
    with pytest.raises(BugError, match="contains itself"):
        structural(Endless.model_json_schema())


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("properties", "spec", "$ref"), "#/x", "spec: $ref is not allowed"),
        (("properties", "spec", "properties", "user"), {}, "spec.user: has no type"),
        (("properties", "spec", "additionalProperties"), False, "spec: additionalProperties beside properties"),
        (("properties", "spec", "properties", "user"), {"type": ["string", "null"]}, "spec.user: type is not one word"),
        (("properties", "spec", "properties", "user"), {"type": "string", "const": "a"}, "spec.user: const is not allowed"),
        (("properties", "spec", "properties", "tiers", "items"), [{"type": "object"}], "spec.tiers: items is not one schema"),
        (("properties", "metadata", "properties"), {"labels": {"type": "object"}}, "metadata.labels: only name and generateName"),
        (
            ("properties", "spec", "properties", "user"),
            {"nullable": True, "x-kubernetes-preserve-unknown-fields": True},
            "spec.user: nullable",
        ),
        (("properties", "spec", "properties", "user"), {"type": "integer", "exclusiveMinimum": 3}, "spec.user: exclusiveMinimum is a flag"),
    ],
)
def test_the_check_of_the_form_finds_each_fault(path: tuple[str, ...], value: Any, fault: str) -> None:
    schema = copy.deepcopy(schema_of("TaskScheduler"))
    *parents, last = path
    at = schema
    for key in parents:
        at = at[key]
    at[last] = value
    assert [found for found in faults_of(schema) if found.startswith(fault)] != []


# -- a TaskScheduler as fabric.yaml ----------------------------------------------------------------------------------------


def test_a_task_scheduler_is_a_configuration(tmp_path: Path) -> None:
    text = HEADER + "metadata: {name: lab, namespace: ai, uid: abc}\nspec: {routing: {waiting_usd_per_h: 30}}\nstatus: {phase: Ready}"
    plain = loaded(tmp_path, "name: lab\nrouting: {waiting_usd_per_h: 30}")
    assert loaded(tmp_path, text) == plain
    assert load_config(tmp_path / "fabric.yaml", environ={}).origins["routing.waiting_usd_per_h"] == str(tmp_path / "fabric.yaml")


def test_the_name_of_the_spec_goes_before_that_of_the_object(tmp_path: Path) -> None:
    assert loaded(tmp_path, HEADER + "metadata: {name: lab}\nspec: {name: other}").name == "other"
    assert loaded(tmp_path, HEADER + "metadata: {name: lab}\nspec:\n  name:\n  routing:\n").name == "lab"
    assert loaded(tmp_path, HEADER).name == "tierfabric"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("apiVersion: example.com/v2\nkind: TaskScheduler", "unknown apiVersion 'example.com/v2'", "apiVersion: example.com/v1"),
        ("apiVersion: example.com/v1\nkind: TaskSheduler", "unknown kind 'TaskSheduler'", "kind: TaskScheduler"),
        ("kind: TaskScheduler", "apiVersion is missing", "or neither"),
        ("apiVersion: example.com/v1\nname: lab", "kind is missing", "or neither"),
        ("apiVersion: scheduling.example.com/v1\nkind: HybridPolicy", "unknown kind 'HybridPolicy'", "fabric policy apply"),
        (HEADER + "spec: [1]", "spec must be a mapping, not a list", None),
        (HEADER + "metadata: {name: 5}", "metadata.name must be text (got 5)", None),
    ],
)
def test_another_kind_is_refused(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert message in str(caught.value) and str(tmp_path / "fabric.yaml") in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        (HEADER + "spce: {}", "spce", "did you mean spec?"),
        (HEADER + "metadata: {nmae: lab}", "metadata.nmae", "did you mean name?"),
        (HEADER + "spec: {routng: {}}", "routng", "did you mean routing?"),
        (HEADER + "queue: vision", "queue", "known: "),
    ],
)
def test_a_misspelt_key_of_a_task_scheduler_is_refused(tmp_path: Path, text: str, key: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        loaded(tmp_path, text)
    assert caught.value.name == key
    assert hint in str(caught.value.hint)


def test_both_kinds_know_the_same_metadata() -> None:
    assert {field.alias for field in Metadata.model_fields.values()} == METADATA


def test_the_laptop_file_is_a_configuration_of_known_flavors() -> None:
    config = load_config(CONFIGS / "laptop.yaml", environ={}).config
    assert {pool.flavor for pool in config.twin.values()} <= set(load_catalogue(config.flavors, tiers=config.tier_names))
    first = (CONFIGS / "laptop.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# fabric up --config cluster_configs/laptop.yaml"
