"""The manifests for Kubernetes: each object is what its API takes, they name each other rightly, and nothing is open that need not be."""

from __future__ import annotations

import ast
import copy
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from fabric.config import load_config
from fabric.types import FLAVOR_LABEL, TIER_LABEL
from pools.flavors import load_catalogue
from tests.changed_documents import changed
from tests.kuberay_schema import SCHEMAS
from tests.structural_check import validator_of

ROOT = Path(__file__).parents[2]
HERE = ROOT / "cluster_configs" / "kuberay"
KUBERNETES = "1.30"
CATALOGUE = load_catalogue()
KUSTOMIZATIONS = [HERE / "kustomization.yaml", HERE / "service" / "kustomization.yaml"]


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document is not None]


OBJECTS = [
    (file.name, document)
    for kustomization in KUSTOMIZATIONS
    for resource in documents(kustomization)[0]["resources"]
    for file in [kustomization.parent / resource]
    for document in documents(file)
]
OPENED = {8000, 8001, 8265, 52365}
"""Models over REST and gRPC; for the operator, the dashboard and its agent."""
RAY = [document for _, document in OBJECTS if document["kind"] in SCHEMAS]


def cluster_of(document: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    return spec["rayClusterConfig"] if document["kind"] == "RayService" else spec


def groups_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = cluster_of(document)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def container_of(group: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return found


def check(document: Mapping[str, Any]) -> None:
    """Raises where an API server, KubeRay's operator or the fabric would refuse the object. What kustomize fills in need not be there."""
    if document["kind"] not in SCHEMAS:
        if document["kind"] == "TaskScheduler":
            from fabric.kubernetes.crd import definition, kind_named

            schema = definition(kind_named("TaskScheduler"))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            validator_of(schema).validate(document)
        else:
            kubernetes_validate.validate(copy.deepcopy(dict(document)), KUBERNETES, strict=True)
        return
    jsonschema.Draft202012Validator(SCHEMAS[document["kind"]]).validate(document)
    for group in groups_of(document):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
        kubernetes_validate.validate(copy.deepcopy(template), KUBERNETES, strict=True)
        flavor = CATALOGUE[group["labels"][FLAVOR_LABEL]]
        if group["labels"] != {TIER_LABEL: flavor.tier, FLAVOR_LABEL: flavor.name}:
            raise ValueError(f"{group['labels']}: the flavor is of tier {flavor.tier}")
    for worker in cluster_of(document)["workerGroupSpecs"]:
        if not worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]:
            raise ValueError(f"{worker['groupName']}: min <= replicas <= max does not hold")


# -- each object -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "document"), OBJECTS, ids=[f"{file}:{each['kind']}:{each['metadata']['name']}" for file, each in OBJECTS])
def test_every_object_is_one_that_its_api_takes(file: str, document: dict[str, Any]) -> None:
    check(document)


WORKER = "spec/workerGroupSpecs/0"
POD = f"{WORKER}/template/spec"


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", "spec/rayVerison", "2.60.0"),
        ("RayCluster", "spec/rayVersion", 2.6),
        ("RayCluster", "spec/authOptions/mode", "tokens"),
        ("RayCluster", "spec/authOptions/secret", "x"),
        ("RayCluster", "spec/headGroupSpec", None),
        ("RayCluster", "spec/headGroupSpec/rayStartParams/num-cpus", 0),
        ("RayCluster", "spec/autoscalerOptions/version", "v3"),
        ("RayCluster", f"{WORKER}/minReplicas", "1"),
        ("RayCluster", f"{WORKER}/minReplicas", 9),
        ("RayCluster", f"{WORKER}/maxReplicas", None),
        ("RayCluster", f"{WORKER}/idleTimeoutSecond", 5),
        ("RayCluster", f"{WORKER}/labels/tier", "cold"),
        ("RayCluster", f"{WORKER}/labels/flavor", "a100-40gb"),
        ("RayCluster", f"{WORKER}/labels/rack", "7"),
        ("RayCluster", f"{POD}/nodeSelecter", {}),
        ("RayCluster", f"{POD}/tolerations", {"key": "x"}),
        ("RayCluster", f"{POD}/containers/0/imagePull", "Always"),
        ("RayCluster", f"{POD}/containers/0/env", [{"name": "A", "value": 1}]),
        ("RayCluster", f"{POD}/containers/0/name", None),
        ("RayService", "spec/serveConfigV2", {"applications": []}),
        ("RayService", "spec/rayClusterSpec", {}),
        ("RayService", "spec/rayClusterConfig/workerGroupSpecs/0/template/spec/volumes/0/nmae", "x"),
        ("NetworkPolicy", "spec/podSelecter", {}),
        ("NetworkPolicy", "spec/policyTypes", "Ingress"),
        ("PersistentVolumeClaim", "spec/accessMode", ["ReadWriteOnce"]),
        ("PersistentVolumeClaim", "spec/resources", "20Gi"),
        ("CustomResourceDefinition", "spec/scpoe", "Namespaced"),
        ("CustomResourceDefinition", "spec/versions", {}),
        ("TaskScheduler", "spec/routng", {}),
        ("TaskScheduler", "spec/api/port", "8642"),
    ],
)
def test_every_kind_of_mistake_is_noticed(kind: str, path: str, value: Any) -> None:
    document = next(each for _, each in OBJECTS if each["kind"] == kind)
    check(document)
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
        check(changed(document, path, value))


# -- together --------------------------------------------------------------------------------------------------------------


def test_the_settings_are_a_configuration_that_the_fabric_reads() -> None:
    config = load_config(HERE / "taskscheduler.yaml", environ={}).config
    assert (config.name, config.tier_names) == ("tierfabric", ("hot", "warm", "cold"))
    assert config.serving.require_token == "always"
    mounted = next(each for each in documents(HERE / "kustomization.yaml")[0]["configMapGenerator"] if each["name"] == "tierfabric")
    assert config.autoscaling_config.name in mounted["files"]


def test_there_is_a_worker_group_for_each_tier_and_the_cheaper_has_priority() -> None:
    cluster = next(each for each in RAY if each["kind"] == "RayCluster")
    workers = cluster["spec"]["workerGroupSpecs"]
    assert [each["labels"][TIER_LABEL] for each in workers] == ["hot", "warm", "cold"]
    prices = []
    for each in workers:
        limits, flavor = container_of(each)["resources"]["limits"], CATALOGUE[each["labels"][FLAVOR_LABEL]]
        units = limits["cpu"] if flavor.is_cpu else limits["nvidia.com/gpu"]
        assert flavor.usd_per_h is not None
        prices.append(flavor.usd_per_h * float(units))
    assert [each["priority"] for each in workers] == sorted((each["priority"] for each in workers), reverse=False)
    assert prices == sorted(prices, reverse=True)


@pytest.mark.parametrize("document", RAY, ids=[each["kind"] for each in RAY])
def test_a_pod_asks_for_what_it_may_use_and_may_do_little(document: dict[str, Any]) -> None:
    for group in groups_of(document):
        spec, container = group["template"]["spec"], container_of(group)
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        has_cards = "nvidia.com/gpu" in container["resources"]["limits"]
        assert has_cards == ("nvidia.com/gpu.product" in spec.get("nodeSelector", {}))
        assert has_cards == any(each["key"] == "nvidia.com/gpu" for each in spec.get("tolerations", []))
        # KubeRay's autoscaler is in the head's pod and needs its account; no worker does.
        assert spec.get("automountServiceAccountToken", True) is ("groupName" not in group)
        # Autoscaler v2 refuses any other.
        assert spec.get("restartPolicy", "Never") == "Never"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("document", RAY, ids=[each["kind"] for each in RAY])
def test_ray_is_the_version_that_is_installed_and_asks_for_the_token(document: dict[str, Any]) -> None:
    spec = cluster_of(document)
    pinned = next(line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("ray=="))
    assert spec["rayVersion"] == pinned.removeprefix("ray==")
    assert f"rayproject/ray:{spec['rayVersion']}-py311" in (HERE / "Dockerfile").read_text(encoding="utf-8")
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-auth-token"}


def named_in(node: Any, key: str) -> Iterator[str]:
    """Every `key: {name: …}` and `key: {claimName: …}` below."""
    if isinstance(node, Mapping):
        for each, value in node.items():
            if each == key and isinstance(value, Mapping):
                yield value.get("name") or value["claimName"]
            yield from named_in(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from named_in(value, key)


def test_what_is_named_is_there() -> None:
    made: dict[str, set[str]] = {"configMap": set(), "secret": set()}
    for file in KUSTOMIZATIONS:
        kustomization = documents(file)[0]
        assert kustomization["generatorOptions"] == {"disableNameSuffixHash": True}
        assert kustomization["namespace"] == "tierfabric"
        for kind, generated in (("configMap", "configMapGenerator"), ("secret", "secretGenerator")):
            made[kind] |= {each["name"] for each in kustomization.get(generated, [])}
    claims = {each["metadata"]["name"] for _, each in OBJECTS if each["kind"] == "PersistentVolumeClaim"}
    assert {name for each in RAY for name in named_in(each, "persistentVolumeClaim")} == claims
    assert {name for each in RAY for key in ("configMap", "configMapRef") for name in named_in(each, key)} == made["configMap"]
    assert {cluster_of(each)["authOptions"]["secretName"] for each in RAY} == made["secret"]
    images = {container_of(group)["image"] for each in RAY for group in groups_of(each)}
    assert all({each["name"] for each in documents(file)[0]["images"]} == images for file in KUSTOMIZATIONS)


def test_the_token_is_not_in_the_repository_and_never_will_be() -> None:
    (generator,) = documents(HERE / "kustomization.yaml")[0]["secretGenerator"]
    assert generator["files"] == ["auth_token"]  # KubeRay reads the key auth_token
    ignored = subprocess.run(["git", "check-ignore", "-q", str(HERE / "auth_token")], cwd=ROOT, check=False)
    assert ignored.returncode == 0 or not (ROOT / ".git").exists()
    assert not any(each["kind"] == "Secret" for _, each in OBJECTS)


def test_all_ports_are_closed_but_those_that_are_opened() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for _, each in OBJECTS if each["kind"] == "NetworkPolicy"}
    assert policies.pop("closed") == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, spec in policies.items():
        for rule in spec["ingress"]:
            assert rule["from"] and all(peer and "ipBlock" not in peer for peer in rule["from"]), name
            if rule["from"] != [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]:
                assert {port["port"] for port in rule["ports"]} <= OPENED, name
    cluster = next(each for each in RAY if each["kind"] == "RayCluster")
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def test_a_lost_node_is_noticed_within_eight_seconds_and_the_head_remembers() -> None:
    cluster = next(each for each in RAY if each["kind"] == "RayCluster")
    head = container_of(cluster["spec"]["headGroupSpec"])
    given = {each["name"]: each["value"] for each in head["env"]}
    slowest_ms = int(given["RAY_health_check_failure_threshold"]) * (
        int(given["RAY_health_check_period_ms"]) + int(given["RAY_health_check_timeout_ms"])
    )
    assert slowest_ms <= 8000
    state = next(mount["mountPath"] for mount in head["volumeMounts"] if mount["name"] == "state")
    assert given["RAY_gcs_storage"] == "rocksdb" and given["RAY_gcs_storage_path"].startswith(f"{state}/")
    assert str(load_config(HERE / "taskscheduler.yaml", environ={}).config.state_dir).startswith(f"{state}/")


def test_the_application_of_the_service_is_in_its_file() -> None:
    service = next(each for each in RAY if each["kind"] == "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    module, _, name = application["import_path"].partition(":")
    tree = ast.parse((HERE / "service" / f"{module}.py").read_text(encoding="utf-8"))
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert name in assigned and {each["name"] for each in application["deployments"]} == classes
    for deployment in application["deployments"]:
        options = deployment["ray_actor_options"]
        for selector in (options["label_selector"], *(each["label_selector"] for each in options["fallback_strategy"])):
            assert selector[TIER_LABEL] in {flavor.tier for flavor in CATALOGUE.values()}


# -- KubeRay's own definitions, where somebody fetched them: make test-kuberay -------------------------------------------------


def definitions() -> dict[str, Any]:
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        pytest.skip("KUBERAY_CRDS names no folder of KubeRay's definitions: make test-kuberay")
    found = {}
    for file in sorted(Path(folder).glob("*.yaml")):
        document = documents(file)[0]
        versions = {version["name"]: version["schema"]["openAPIV3Schema"] for version in document["spec"]["versions"]}
        found[document["spec"]["names"]["kind"]] = versions["v1"]
    return found


@pytest.mark.parametrize("document", RAY, ids=[each["kind"] for each in RAY])
def test_kuberays_own_definitions_take_the_manifests(document: dict[str, Any]) -> None:
    validator_of(definitions()[document["kind"]]).validate(document)


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_every_field_of_the_schema_here_is_kuberays(kind: str) -> None:
    theirs = definitions()[kind]

    def unlike(mine: Mapping[str, Any], other: Mapping[str, Any], place: str) -> Iterator[str]:
        for name, part in mine.get("properties", {}).items():
            there = other.get("properties", {}).get(name)
            if place == "metadata":  # of every object; no definition spells it out
                continue
            if there is None or there.get("type") != part["type"]:
                yield f"{place}.{name}"
            else:
                yield from unlike(part, there, f"{place}.{name}" if place else name)
        if "items" in mine:
            yield from unlike(mine["items"], other.get("items", {}), f"{place}[]")
        if mine.get("enum") and other.get("enum"):
            yield from (f"{place}: {word}" for word in mine["enum"] if word not in other["enum"])
        yield from (
            f"{place}.{name} is required"
            for name in set(other.get("required", [])) - set(mine.get("required", []))
            if mine.get("properties")
        )

    assert list(unlike(SCHEMAS[kind], theirs, "")) == []
