"""The form of a policy document: which keys it may have, of which type, with which default.

Invariants: strict at every level; a key that is null counts as not given; the defaults are those of `fabric.policy`. What the
keys mean together (limits, cohorts, flavors) is for `fabric.policy_document` to check.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from fabric.durations import parse_duration
from fabric.errors import UserError
from fabric.policy import Fallback, OnStraggler, Policy, PriorityClass, QueuePolicy, Reclaim
from fabric.scheduler.problem import Objective

API_VERSION = "scheduling.example.com/v1"
KIND = "HybridPolicy"
ALL = "*"
"""Stands for every selector of nominalQuota: a limit that is given as one number."""

_POLICY, _CLASS, _QUEUE = Policy(), PriorityClass(""), QueuePolicy("")


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _seconds(value: Any) -> float:
    try:
        return parse_duration(value)
    except UserError as error:
        raise ValueError(f"must be a length of time like {error.hint}") from error


def _limit(value: Any) -> Any:
    return {ALL: value} if isinstance(value, int | float | str) else value


_Float = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
_Weight = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
_Slower = Annotated[float, BeforeValidator(_number), Field(ge=1.1, le=100, allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
# What may be written, which is more than what it is read as: the form of the CRD.
_TIME = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
_LIMIT = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}]})
_Seconds = Annotated[float, BeforeValidator(_seconds), _TIME]
_Span = Annotated[float, BeforeValidator(_seconds), Field(gt=0), _TIME]
_Limit = Annotated[dict[str, _Float], BeforeValidator(_limit), _LIMIT]
# A name becomes the value of a Ray label, and Ray refuses any other shape there.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class NodeSelector(_Part):
    """The preferred nodes; all that are given must hold."""

    accelerator: str | None = None
    tier: str | None = None
    flavor: str | None = None


class ClassDocument(_Part):
    name: _Name
    weight: _Weight = _CLASS.weight
    value: Annotated[int, BeforeValidator(_number), Field(ge=-(10**9), le=10**9)] = _CLASS.value
    node_selector: NodeSelector = NodeSelector()


class FairSharing(_Part):
    weight: _Weight = _QUEUE.weight


class Preemption(_Part):
    reclaim_within_cohort: Reclaim = _QUEUE.reclaim_within_cohort
    within_cluster_queue: Literal["Never", "LowerPriority"] = _QUEUE.within_queue


class Budget(_Part):
    usd: _Float
    period: _Span = _QUEUE.budget_period_s


class QueueDocument(_Part):
    name: _Name
    cohort: Annotated[str, Field(max_length=63)] = _QUEUE.cohort
    weight: _Weight | None = None
    fair_sharing: FairSharing | None = None
    nominal_quota: dict[str, _Float] = {}
    borrowing_limit: _Limit | None = None
    lending_limit: _Limit | None = None
    preemption: Preemption = Preemption()
    max_units_per_user: _Weight | None = None
    max_jobs_per_user: _Count | None = None
    budget: Budget | None = None


class Spec(_Part):
    priority_classes: tuple[ClassDocument, ...] = ()
    fallback_strategy: Fallback = _POLICY.fallback
    patience: _Seconds = _POLICY.patience_s
    objective: Objective = _POLICY.objective
    usage_half_life_time: _Span = _POLICY.usage_half_life_s
    restart_seconds: _Float = _POLICY.restart_s
    stragglers: OnStraggler = _POLICY.stragglers
    slower_than: _Slower = _POLICY.slower_than
    queues: tuple[QueueDocument, ...] = ()


class Metadata(_Part):
    """The fields of a Kubernetes object's metadata. Only the name is read."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: Any = None
    generate_name: Any = None
    labels: Any = None
    annotations: Any = None
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    owner_references: Any = None
    finalizers: Any = None
    managed_fields: Any = None
    self_link: Any = None


class PolicyDocument(_Part):
    """The whole document."""

    api_version: Literal["scheduling.example.com/v1"]
    kind: Literal["HybridPolicy"]
    metadata: Metadata
    spec: Spec
    status: Any = None
