"""Decides whether a policy document is valid, and turns it into the `Policy` that the scheduler reads.

Invariants: a document that passes names only flavors of the catalogue, lends no more than it has and borrows only within a cohort;
what is refused names its place (`spec.queues[0].nominalQuota`) and, for a misspelt word, the nearest known one. Metadata
and `status` that a Kubernetes server adds are accepted, everything else unknown is refused. Defaults stand in `fabric.policy`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fabric.errors import ConfigError, UnknownNameError, UserError, nearest_hint
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.policy_schema import ALL, API_VERSION, KIND, ClassDocument, PolicyDocument, QueueDocument
from fabric.selectors import ANY, answers, flavors_of, words_of
from fabric.types import Flavor

MAX_DOCUMENT_CHARS = 1_000_000

_DEFAULT = Policy()
_QUEUE = QueuePolicy("")
# pydantic speaks of Python; a user wrote YAML.
_WORDS = {
    "dict_type": "must be a mapping like {gpu: 8}",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list: each item on a line that begins with -",
    "string_type": "must be text",
}


def read_policy(document: str | Mapping[str, Any], *, catalogue: Mapping[str, Flavor], version: int = 0) -> Policy:
    """The policy that a document (YAML or JSON text, or what was read from one) describes.

    Raises: ConfigError (`bad_policy`, `policy_not_yaml`), UnknownNameError (`unknown_policy_key`, `unknown_flavor`, `unknown_tier`).
    """
    raw = _loaded(document) if isinstance(document, str) else dict(document)
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if raw.get(key) != wanted:
            got = repr(raw[key]) if isinstance(raw.get(key), str) else "nothing" if key not in raw else "what it is"
            raise _bad(key, f"must be {wanted}, not {got}", hint=f"a policy begins with apiVersion: {API_VERSION} and kind: {KIND}")
    try:
        read = PolicyDocument.model_validate(raw)
    except ValidationError as error:
        raise _refusal(error) from error
    spec = read.spec
    _must_be_distinct("spec.priorityClasses", [each.name for each in spec.priority_classes])
    _must_be_distinct("spec.queues", [each.name for each in spec.queues])
    classes = tuple(_class(f"spec.priorityClasses[{i}]", each, catalogue) for i, each in enumerate(spec.priority_classes))
    queues = tuple(_queue(f"spec.queues[{i}]", each, catalogue) for i, each in enumerate(spec.queues))
    return Policy(
        name=read.metadata.name,
        classes=classes or _DEFAULT.classes,
        queues=queues or _DEFAULT.queues,
        fallback=spec.fallback_strategy,
        patience_s=spec.patience,
        objective=spec.objective,
        usage_half_life_s=spec.usage_half_life_time,
        restart_s=spec.restart_seconds,
        stragglers=spec.stragglers,
        slower_than=spec.slower_than,
        version=version,
    )


# -- YAML ------------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML readers silently drop one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [child.value for child, _ in node.value if isinstance(child, yaml.ScalarNode)]
        twice = [key for key, count in Counter(keys).items() if count > 1 and key != "<<"]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _loaded(text: str) -> dict[str, Any]:
    if len(text) > MAX_DOCUMENT_CHARS:
        raise ConfigError(f"a policy of {len(text):,} characters is too long", code="bad_policy", hint=f"at most {MAX_DOCUMENT_CHARS:,}")
    try:
        document = yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError("the policy is nested too deeply", code="policy_not_yaml") from error
    except (yaml.YAMLError, ValueError) as error:  # a date like 2026-13-45 is a ValueError
        raise ConfigError(f"the policy is not YAML: {error}", code="policy_not_yaml") from error
    if not isinstance(document, dict):
        kind = "nothing" if document is None else f"a {type(document).__name__}"
        raise ConfigError(f"a policy must be a mapping, not {kind}", code="bad_policy", hint=f"it begins with apiVersion: {API_VERSION}")
    return document


# -- what the scheduler reads ----------------------------------------------------------------------------------------------


def _class(place: str, document: ClassDocument, catalogue: Mapping[str, Flavor]) -> PriorityClass:
    where, wanted = f"{place}.nodeSelector", document.node_selector
    if wanted.tier is not None:
        tiers = {flavor.tier for flavor in catalogue.values()}
        if wanted.tier.lower() not in tiers:
            raise _unknown(f"{where}.tier", "tier", wanted.tier, tiers)
    for key, selector in (("accelerator", wanted.accelerator), ("flavor", wanted.flavor)):
        if selector is not None:
            _known_flavors(f"{where}.{key}", selector, catalogue)
    selectors = tuple(_spelt(each, catalogue) for each in (wanted.accelerator, wanted.tier, wanted.flavor) if each is not None)
    if selectors and not any(all(answers(flavor, each) for each in selectors) for flavor in catalogue.values()):
        raise _bad(where, f"no flavor is all of {', '.join(selectors)}", hint="what is given must hold together; leave one out")
    return PriorityClass(document.name, document.weight, document.value, selectors)


def _queue(place: str, document: QueueDocument, catalogue: Mapping[str, Flavor]) -> QueuePolicy:
    nominal = _quota(f"{place}.nominalQuota", document.nominal_quota, catalogue)
    for key, limit in (("borrowingLimit", document.borrowing_limit), ("lendingLimit", document.lending_limit)):
        if limit is not None and not document.cohort:
            raise _bad(
                f"{place}.{key}", "there is nobody to borrow from or lend to", hint="give the queue a cohort, or leave the limit out"
            )
    if document.weight is not None and document.fair_sharing is not None:
        raise _bad(f"{place}.weight", "is given twice", hint="weight and fairSharing.weight are the same; give one")
    lending = _limits(f"{place}.lendingLimit", document.lending_limit, nominal, catalogue)
    for selector, most in (lending or {}).items():
        if most > nominal[selector]:
            more = f"lends {most:g} of {selector}, more than the {nominal[selector]:g} it has"
            raise _bad(f"{place}.lendingLimit", more, hint=f"at most nominalQuota.{selector}; left out, all of it is lent")
    weight = document.fair_sharing.weight if document.fair_sharing else document.weight
    return QueuePolicy(
        name=document.name,
        cohort=document.cohort,
        weight=_QUEUE.weight if weight is None else weight,
        nominal=nominal,
        borrowing_limit=_limits(f"{place}.borrowingLimit", document.borrowing_limit, nominal, catalogue),
        lending_limit=lending,
        reclaim_within_cohort=document.preemption.reclaim_within_cohort,
        within_queue=document.preemption.within_cluster_queue,
        max_units_per_user=document.max_units_per_user,
        max_jobs_per_user=document.max_jobs_per_user,
        budget_usd=document.budget.usd if document.budget else None,
        budget_period_s=document.budget.period if document.budget else _QUEUE.budget_period_s,
    )


def _quota(place: str, given: Mapping[str, float], catalogue: Mapping[str, Flavor]) -> dict[str, float]:
    quota: dict[str, float] = {}
    for selector, amount in given.items():
        if selector.strip().lower() in ("", ANY):
            raise _bad(place, "accelerators and vCPUs do not add up", hint="name kinds instead: {gpu: 8, cpu: 64}")
        _known_flavors(place, selector, catalogue)
        spelt = _spelt(selector, catalogue)
        if spelt in quota:
            raise _bad(place, f"{spelt} is given twice")
        quota[spelt] = amount
    return quota


def _limits(
    place: str, given: Mapping[str, float] | None, nominal: Mapping[str, float], catalogue: Mapping[str, Flavor]
) -> dict[str, float] | None:
    if given is None:
        return None
    if not nominal:
        raise _bad(place, "limits a quota that the queue does not have", hint="give the queue a nominalQuota, or leave the limit out")
    if list(given) == [ALL]:
        return dict.fromkeys(nominal, given[ALL])
    limits = _quota(place, given, catalogue)
    for selector in limits:
        if selector not in nominal:
            raise _bad(place, f"{selector} has no nominalQuota in this queue", hint=nearest_hint(selector, nominal))
    return limits


def _spelt(selector: str, catalogue: Mapping[str, Flavor]) -> str:
    """The selector as the catalogue spells it; lower case for a model."""
    wanted = selector.strip().lower()
    return next((word for word in sorted(words_of(catalogue)) if word.lower() == wanted), wanted)


def _known_flavors(place: str, selector: str, catalogue: Mapping[str, Flavor]) -> None:
    try:
        flavors_of(selector, catalogue)
    except UnknownNameError as error:
        raise _unknown(place, "flavor", selector, words_of(catalogue)) from error


# -- what is refused, in our words -----------------------------------------------------------------------------------------


def _bad(place: str, message: str, *, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{place}: {message}", code="bad_policy", hint=hint, place=place)


def _unknown(place: str, noun: str, name: str, known: Iterable[str]) -> UnknownNameError:
    bare = UnknownNameError.of(noun, name, known)
    return UnknownNameError(f"{place}: {bare.message}", code=bare.code, hint=bare.hint, name=name, place=place)


def _must_be_distinct(place: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise _bad(place, f"{name!r} is named {count} times", hint="a name stands for one")


def _refusal(error: ValidationError) -> UserError:
    """The first complaint; a misspelt key before all others, as that the right one is missing only follows from it."""
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    location = first["loc"]
    place = re.sub(
        r"\.\[", "[", ".".join(f"[{part}]" if isinstance(part, int) else part for part in location if part not in ("[key]", ALL))
    )
    if first["type"] == "extra_forbidden":
        return _unknown(place, "policy key", str(location[-1]), _keys_at(location[:-1]))
    if first["type"] == "missing":
        return _bad(place, "is missing")
    value = first.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float) and not (isinstance(value, float) and math.isnan(value)) else ""
    message = _WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hint = "put it in quotes" if first["type"] == "string_type" and isinstance(value, int | float) else None
    return _bad(place, f"{message}{shown}", hint=hint)


def _keys_at(location: Sequence[int | str]) -> list[str]:
    """The keys allowed where an unknown one was met."""
    model: type[BaseModel] = PolicyDocument
    for part in location:
        if isinstance(part, str):
            annotation = next(field.annotation for field in model.model_fields.values() if field.alias == part)
            model = _model_in(annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner))), None)
