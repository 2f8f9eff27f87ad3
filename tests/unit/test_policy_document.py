"""Policy documents: what loads, what it means to the scheduler, and what a mistake is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fabric.durations import parse_duration
from fabric.errors import ConfigError, FabricError, UnknownNameError
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.policy_document import read_policy
from fabric.policy_schema import Spec
from pools.flavors import load_catalogue
from tests.jobs import BALANCED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
READY = sorted((ROOT / "cluster_configs" / "policies").glob("*.yaml"))

CATALOGUE = load_catalogue()

HEAD = "apiVersion: scheduling.example.com/v1\nkind: HybridPolicy\nmetadata: {name: p}\n"


def read(spec: str, **changes: Any) -> Policy:
    return read_policy(f"{HEAD}spec: {spec}\n", catalogue=CATALOGUE, **changes)


def queue(keys: str) -> QueuePolicy:
    return read(f"{{queues: [{{name: q, {keys}}}]}}").queues[0]


def refused(document: str | dict[str, Any]) -> FabricError:
    with pytest.raises(FabricError) as caught:
        read_policy(document, catalogue=CATALOGUE)
    return caught.value


def refused_spec(spec: str) -> FabricError:
    return refused(f"{HEAD}spec: {spec}\n")


# -- what loads ------------------------------------------------------------------------------------------------------------


def test_a_policy_of_two_weighted_classes_loads_as_it_stands() -> None:
    assert read_policy(BALANCED, catalogue=CATALOGUE, version=3) == Policy(
        name="cpu-memory-balanced",
        classes=(PriorityClass("gpu-intensive", 3.0, 0, ("nvidia-tesla",)), PriorityClass("cpu-bound", 1.0)),
        fallback="best-effort",
        version=3,
    )


def test_an_empty_spec_is_the_default_policy() -> None:
    assert read("{}") == Policy(name="p")
    assert read("{queues: , priorityClasses: , patience: }") == Policy(name="p"), "null counts as left out"


def test_text_and_mapping_say_the_same() -> None:
    assert read_policy(yaml.safe_load(BALANCED), catalogue=CATALOGUE) == read_policy(BALANCED, catalogue=CATALOGUE)


def test_what_a_kubernetes_server_adds_is_accepted() -> None:
    document = yaml.safe_load(BALANCED)
    document["metadata"] |= {
        "namespace": "default",
        "labels": {"team": "lab"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "uid": "8d1c",
        "resourceVersion": "1041",
        "generation": 2,
        "creationTimestamp": "2026-11-22T10:00:00Z",
        "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        "ownerReferences": [],
        "finalizers": ["x"],
        "selfLink": "/apis",
    }
    document["status"] = {"conditions": [{"type": "Active", "status": "True"}]}
    assert read_policy(document, catalogue=CATALOGUE) == read_policy(BALANCED, catalogue=CATALOGUE)


def test_every_key_reaches_the_scheduler() -> None:
    policy = read("""
  priorityClasses: [{name: urgent, weight: 2.5, value: 100, nodeSelector: {accelerator: GPU, tier: Hot, flavor: A100-80g}}]
  fallbackStrategy: patient
  patience: 1h30m
  objective: cost
  usageHalfLifeTime: 7d
  restartSeconds: 30
  queues:
    - name: research
      cohort: lab
      fairSharing: {weight: 2}
      nominalQuota: {A100: 8, CPU: 64}
      borrowingLimit: {a100: 4}
      lendingLimit: 0
      preemption: {reclaimWithinCohort: LowerPriority, withinClusterQueue: Never}
      maxUnitsPerUser: 4
      maxJobsPerUser: 10
      budget: {usd: 40, period: 7d}
    - {name: other, weight: 3, budget: {usd: 0}}
""")
    assert policy.classes == (PriorityClass("urgent", 2.5, 100, ("gpu", "hot", "a100-80g")),)
    assert (policy.fallback, policy.patience_s, policy.objective) == ("patient", 5400.0, "cost")
    assert (policy.usage_half_life_s, policy.restart_s) == (7 * 86400.0, 30.0)
    assert policy.queues == (
        QueuePolicy(
            name="research",
            cohort="lab",
            weight=2.0,
            nominal={"a100": 8.0, "cpu": 64.0},
            borrowing_limit={"a100": 4.0},
            lending_limit={"a100": 0.0, "cpu": 0.0},
            reclaim_within_cohort="LowerPriority",
            within_queue="Never",
            max_units_per_user=4.0,
            max_jobs_per_user=10,
            budget_usd=40.0,
            budget_period_s=7 * 86400.0,
        ),
        QueuePolicy("other", weight=3.0, budget_usd=0.0),
    )


def test_no_limit_means_borrow_without_limit_and_lend_all_as_in_kueue() -> None:
    found = queue("cohort: c, nominalQuota: {gpu: 8}, borrowingLimit: null, lendingLimit: null")
    assert (found.borrowing_limit, found.lending_limit) == (None, None)


def test_a_queue_may_lend_all_that_it_has() -> None:
    assert queue("cohort: c, nominalQuota: {gpu: 8}, lendingLimit: 8").lending_limit == {"gpu": 8.0}


def test_a_selector_is_spelt_as_the_catalogue_spells_it() -> None:
    own = load_catalogue({"MyCard": {"tier": "warm", "kind": "npu", "resource": "NPU", "family": "Acme"}})
    spec = "{priorityClasses: [{name: a, nodeSelector: {accelerator: acme}}], queues: [{name: q, nominalQuota: {mycard: 2}}]}"
    policy = read_policy(f"{HEAD}spec: {spec}\n", catalogue=own)
    assert policy.classes[0].selectors == ("Acme",)
    assert policy.queues[0].nominal == {"MyCard": 2.0}


@pytest.mark.parametrize("file", READY, ids=[file.stem for file in READY])
def test_every_ready_policy_loads_and_has_the_name_of_its_file(file: Path) -> None:
    assert read_policy(file.read_text(encoding="utf-8"), catalogue=CATALOGUE).name == file.stem


def test_the_three_ready_policies_are_there_and_say_what_their_names_say() -> None:
    assert [file.stem for file in READY] == ["cost-first", "production-and-batch", "research-lab"]
    cost, production, lab = (read_policy(file.read_text(encoding="utf-8"), catalogue=CATALOGUE) for file in READY)
    assert cost.objective == "cost"
    assert {each.name: each.value for each in production.classes} == {"production": 100, "batch": 0, "best-effort": 0}
    assert {each.cohort for each in lab.queues} == {"lab"}
    assert sum(each.nominal["gpu"] for each in lab.queues) == 24


# -- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "code", "said", "hint"),
    [
        (
            "{queues: [{name: q, nominalQuotta: {gpu: 1}}]}",
            "unknown_policy_key",
            "spec.queues[0].nominalQuotta: unknown",
            "did you mean nominalQuota?",
        ),
        ("{priorityclasses: []}", "unknown_policy_key", "spec.priorityclasses: unknown policy key", "did you mean priorityClasses?"),
        ("{priorityClasses: [{nam: a}]}", "unknown_policy_key", "spec.priorityClasses[0].nam: unknown", "did you mean name?"),
        (
            "{priorityClasses: [{name: a, nodeSelector: {acelerator: gpu}}]}",
            "unknown_policy_key",
            "nodeSelector.acelerator: unknown",
            "did you mean accelerator?",
        ),
        (
            "{queues: [{name: q, preemption: {borrowWithinCohort: {}}}]}",
            "unknown_policy_key",
            "preemption.borrowWithinCohort: unknown",
            "did you mean reclaimWithinCohort?",
        ),
        (
            "{queues: [{name: q, cohort: c, nominalQuota: {gpu: 8}, lendingLimit: 9}]}",
            "bad_policy",
            "lends 9 of gpu, more than the 8 it has",
            "at most",
        ),
        (
            "{queues: [{name: q, cohort: c, nominalQuota: {gpu: 8}, lendingLimit: {gpu: 8.5}}]}",
            "bad_policy",
            "spec.queues[0].lendingLimit",
            "at most",
        ),
        ("{queues: [{name: q, nominalQuota: {gpu: 8}, borrowingLimit: 1}]}", "bad_policy", "spec.queues[0].borrowingLimit", "cohort"),
        ("{queues: [{name: q, nominalQuota: {gpu: 8}, lendingLimit: 1}]}", "bad_policy", "spec.queues[0].lendingLimit", "cohort"),
        ("{queues: [{name: q, cohort: c, borrowingLimit: 1}]}", "bad_policy", "a quota that the queue does not have", "nominalQuota"),
        (
            "{queues: [{name: q, cohort: c, nominalQuota: {gpu: 8}, lendingLimit: {cpu: 1}}]}",
            "bad_policy",
            "cpu has no nominalQuota",
            "did you mean gpu?",
        ),
        ("{queues: [{name: q, nominalQuota: {gpu: -1}}]}", "bad_policy", "spec.queues[0].nominalQuota.gpu: should be greater", None),
        ("{queues: [{name: q, nominalQuota: {gpu: .inf}}]}", "bad_policy", "should be a finite number", None),
        ("{queues: [{name: q, nominalQuota: {gpu: .nan}}]}", "bad_policy", "spec.queues[0].nominalQuota.gpu", None),
        ("{queues: [{name: q, nominalQuota: {gpu: yes}}]}", "bad_policy", "must be a number (got True)", None),
        ("{queues: [{name: q, nominalQuota: {gpu: }}]}", "bad_policy", "spec.queues[0].nominalQuota.gpu", None),
        ("{queues: [{name: q, nominalQuota: 8}]}", "bad_policy", "must be a mapping like {gpu: 8}", None),
        ("{queues: [{name: q, nominalQuota: {any: 8}}]}", "bad_policy", "do not add up", "{gpu: 8, cpu: 64}"),
        ("{queues: [{name: q, nominalQuota: {A100: 8, a100: 4}}]}", "bad_policy", "a100 is given twice", None),
        (
            "{queues: [{name: q, nominalQuota: {a100-80gb: 8}}]}",
            "unknown_flavor",
            "spec.queues[0].nominalQuota: unknown flavor",
            "did you mean a100-80g?",
        ),
        ("{queues: [{name: q, weight: 0}]}", "bad_policy", "spec.queues[0].weight: should be greater than 0 (got 0)", None),
        ("{queues: [{name: q, fairSharing: {weight: -1}}]}", "bad_policy", "spec.queues[0].fairSharing.weight", None),
        ("{queues: [{name: q, weight: 1, fairSharing: {weight: 1}}]}", "bad_policy", "given twice", "give one"),
        ("{queues: [{name: q, budget: {usd: -1}}]}", "bad_policy", "spec.queues[0].budget.usd", None),
        ("{queues: [{name: q, budget: {}}]}", "bad_policy", "spec.queues[0].budget.usd: is missing", None),
        ("{queues: [{name: q, budget: {usd: 1, period: 0s}}]}", "bad_policy", "spec.queues[0].budget.period", None),
        ("{queues: [{name: q, maxJobsPerUser: 0}]}", "bad_policy", "spec.queues[0].maxJobsPerUser", None),
        ("{queues: [{name: q, maxJobsPerUser: 1.5}]}", "bad_policy", "spec.queues[0].maxJobsPerUser", None),
        ("{queues: [{name: q, preemption: {withinClusterQueue: Always}}]}", "bad_policy", "'Never' or 'LowerPriority'", None),
        ("{queues: [{name: q}, {name: r}, {name: q}]}", "bad_policy", "spec.queues: 'q' is named 2 times", None),
        ("{queues: {q: {}}}", "bad_policy", "spec.queues: must be a list", None),
        ("{queues: [q]}", "bad_policy", "spec.queues[0]: must be a mapping", None),
        ("{queues: [null]}", "bad_policy", "spec.queues[0]: must be a mapping", None),
        ("{queues: [{name: 7}]}", "bad_policy", "spec.queues[0].name: must be text (got 7)", "quotes"),
        ("{queues: [{name: a b}]}", "bad_policy", "spec.queues[0].name", None),
        ("{priorityClasses: [{name: a}, {name: a}]}", "bad_policy", "spec.priorityClasses: 'a' is named 2 times", None),
        ("{priorityClasses: [{name: a, weight: 0}]}", "bad_policy", "spec.priorityClasses[0].weight", None),
        ("{priorityClasses: [{weight: 1}]}", "bad_policy", "spec.priorityClasses[0].name: is missing", None),
        ("{priorityClasses: [{name: a, nodeSelector: gpu}]}", "bad_policy", "nodeSelector: must be a mapping", None),
        (
            "{priorityClasses: [{name: a, nodeSelector: {accelerator: nvidia-teslla}}]}",
            "unknown_flavor",
            "accelerator: unknown",
            "did you mean nvidia-tesla?",
        ),
        (
            "{priorityClasses: [{name: a, nodeSelector: {tier: hott}}]}",
            "unknown_tier",
            "nodeSelector.tier: unknown tier",
            "did you mean hot?",
        ),
        (
            "{priorityClasses: [{name: a, nodeSelector: {flavor: a100-80}}]}",
            "unknown_flavor",
            "nodeSelector.flavor: unknown",
            "did you mean a100-80g?",
        ),
        (
            "{priorityClasses: [{name: a, nodeSelector: {tier: cold, flavor: a100-80g}}]}",
            "bad_policy",
            "no flavor is all of cold, a100-80g",
            "together",
        ),
        ("{fallbackStrategy: besteffort}", "bad_policy", "spec.fallbackStrategy: should be 'best-effort', 'strict' or 'patient'", None),
        ("{patience: soon}", "bad_policy", "spec.patience: must be a length of time like", None),
        ("{patience: -5m}", "bad_policy", "spec.patience", None),
        ("{usageHalfLifeTime: 0}", "bad_policy", "spec.usageHalfLifeTime", None),
        ("{objective: speed}", "bad_policy", "'balanced', 'jct', 'makespan' or 'cost'", None),
        ("{stragglers: kill}", "bad_policy", "spec.stragglers", None),
        ("{slowerThan: 1}", "bad_policy", "spec.slowerThan", None),
        ("{restartSeconds: -1}", "bad_policy", "spec.restartSeconds", None),
        ("[]", "bad_policy", "spec: must be a mapping", None),
        ("", "bad_policy", "spec: is missing", None),
        ("{queues: [], queues: []}", "policy_not_yaml", "'queues' is given twice", None),
        ("{queues: [}", "policy_not_yaml", "not YAML", None),
    ],
)
def test_a_mistake_in_the_spec_is_refused_with_its_place(spec: str, code: str, said: str, hint: str | None) -> None:
    error = refused_spec(spec)
    assert isinstance(error, UnknownNameError if code.startswith("unknown") else ConfigError)
    assert error.code == code
    assert said in error.message
    if hint is not None:
        assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("document", "code", "said"),
    [
        ("", "bad_policy", "not nothing"),
        ("- a", "bad_policy", "not a list"),
        ("a: [" * 5000, "policy_not_yaml", "nested"),
        ("x" * 1_000_001, "bad_policy", "too long"),
        ("a: 1\n---\nb: 2", "policy_not_yaml", "single document"),
        ("a: !!python/object/apply:os.system [true]", "policy_not_yaml", "could not determine a constructor"),
        ("kind: HybridPolicy", "bad_policy", "apiVersion: must be scheduling.example.com/v1, not nothing"),
        (BALANCED.replace("/v1", "/v2"), "bad_policy", "not 'scheduling.example.com/v2'"),
        (BALANCED.replace("HybridPolicy", "ClusterQueue"), "bad_policy", "kind: must be HybridPolicy, not 'ClusterQueue'"),
        (BALANCED.replace("  name: cpu-memory-balanced", "  nme: x"), "unknown_policy_key", "metadata.nme: unknown policy key 'nme'"),
        (BALANCED.replace("cpu-memory-balanced", "''"), "bad_policy", "metadata.name"),
        (BALANCED + "extra: 1\n", "unknown_policy_key", "unknown policy key 'extra'"),
    ],
)
def test_what_is_no_policy_document_is_refused(document: str, code: str, said: str) -> None:
    error = refused(document)
    assert error.code == code
    assert said in error.message


def test_a_document_that_grows_by_its_own_references_is_refused_at_once() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
    )
    assert refused(f"{bomb}apiVersion: scheduling.example.com/v1\nkind: *j\n").code == "bad_policy"
    assert refused(f"{bomb}{HEAD}spec: {{queues: *j}}\n").code == "unknown_policy_key"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8
)
keys = st.sampled_from([field.alias for field in Spec.model_fields.values()])


@given(spec=st.dictionaries(keys, trees, max_size=3))
def test_whatever_the_spec_is_it_loads_or_is_refused_in_our_words(spec: dict[str, Any]) -> None:
    document = {"apiVersion": "scheduling.example.com/v1", "kind": "HybridPolicy", "metadata": {"name": "p"}, "spec": spec}
    try:
        read_policy(document, catalogue=CATALOGUE)
    except FabricError as error:
        assert error.message
        assert error.code in ("bad_policy", "unknown_policy_key", "unknown_flavor", "unknown_tier")


# -- the page --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block-{i}" for i in range(len(BLOCKS))])
def test_every_policy_of_the_page_loads(block: str) -> None:
    assert read_policy(block, catalogue=CATALOGUE).name


def test_the_page_begins_with_the_policy_of_two_classes() -> None:
    assert BLOCKS[0] == BALANCED
    assert len(BLOCKS) == 3


def rows_of_page() -> dict[str, str]:
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]*?) ?\| ", PAGE, re.MULTILINE))


def keys_of(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Key -> field, models within models opened: `queues[].budget.usd`."""
    found: dict[str, Any] = {}
    for field in model.model_fields.values():
        found[f"{prefix}{field.alias}"] = field
        if inner := model_in(field.annotation):
            found |= keys_of(inner, f"{prefix}{field.alias}{'[]' if 'tuple' in str(field.annotation) else ''}.")
    return found


def model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := model_in(inner))), None)


def test_every_key_has_its_row_on_the_page_and_every_row_is_a_key() -> None:
    assert list(rows_of_page()) == list(keys_of(Spec))


def test_the_defaults_on_the_page_are_those_of_the_code() -> None:
    rows, compared = rows_of_page(), 0
    for key, field in keys_of(Spec).items():
        shown = rows[key]
        if field.is_required():
            assert shown == "required", key
        elif isinstance(field.default, int | float) or (isinstance(field.default, str) and field.default):
            plain = shown.strip("`")
            assert plain == field.default or parse_duration(plain) == field.default, key
            compared += 1
        elif key == "queues[].weight":
            assert float(shown.strip("`")) == QueuePolicy("").weight
        else:
            assert "`" not in shown or "`default`" in shown, f"{key}: a value is shown where the code has none"
    assert compared == 13
