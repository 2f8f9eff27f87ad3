"""The fields of KubeRay's objects that a manifest may have, as a JSON schema: those that the project uses and those beside them.

The names and types are those of `ray.io/v1` in KubeRay 1.7. Pod templates are Kubernetes' own and are checked as such. KubeRay's
definitions themselves are not in the repository; `make test-kuberay` fetches them and checks the manifests, and this page, against them.
"""

from __future__ import annotations

from typing import Any

TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
OPEN: dict[str, Any] = {"type": "object"}
"""Checked elsewhere: a pod's template, a container's resources."""


def group(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def one_of(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


HEAD_GROUP = group(
    ("rayStartParams", "template"),
    rayStartParams=TEXTS,
    labels=TEXTS,
    resources=TEXTS,
    serviceType=TEXT,
    enableIngress=FLAG,
    headService=OPEN,
    template=OPEN,
)
WORKER_GROUP = group(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    numOfHosts=WHOLE,
    idleTimeoutSeconds=WHOLE,
    priority={"type": "integer"},
    rayStartParams=TEXTS,
    labels=TEXTS,
    resources=TEXTS,
    template=OPEN,
)
CLUSTER_SPEC = group(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=group(mode=one_of("token", "disabled"), secretName=TEXT, enableK8sTokenAuth=FLAG),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=group(
        version=one_of("v1", "v2"),
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        idleTimeoutSeconds=WHOLE,
        resources=OPEN,
        env=listed(OPEN),
    ),
    gcsFaultToleranceOptions=OPEN,
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs=listed(WORKER_GROUP),
)
SERVICE_SPEC = group(
    ("rayClusterConfig",),
    serveConfigV2=TEXT,
    excludeHeadPodFromServeSvc=FLAG,
    serveService=OPEN,
    rayClusterDeletionDelaySeconds=WHOLE,
    upgradeStrategy=group(type=one_of("NewCluster", "NewClusterWithIncrementalUpgrade", "None"), clusterUpgradeOptions=OPEN),
    rayClusterConfig=CLUSTER_SPEC,
)


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = group(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
    return group(
        ("apiVersion", "kind", "metadata", "spec"), apiVersion=one_of("ray.io/v1"), kind=one_of(kind), metadata=metadata, spec=spec
    )


SCHEMAS = {"RayCluster": _object("RayCluster", CLUSTER_SPEC), "RayService": _object("RayService", SERVICE_SPEC)}
