"""What `explain` prints, and the one JSON form behind it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fabric import routing
from fabric.explanation import WORDS, Explanation
from fabric.lanes import start
from fabric.types import Fingerprint, Flavor, Node, Resources, Route, Run, Variant
from tests.fleet import CPUS, FLAVORS, HOT, ONE_CPU, ONE_GPU, SMALL, node, plan_of

TWIN = Node("t", "here", "hot", "big", {"CPU": 4.0, "GPU": 1.0}, slowdown=1.0)
MYSTERY = Flavor("mystery-accelerator-16g", "warm", "gpu", "x", "GPU")
SEEN = Fingerprint("cv", "inference", ("numpy uint8 [32, 224, 224, 3]", "calls torchvision.models"))
RUN = Run("c1", "classify", 3, "cuda", "big", "0123456789abcdef", wall_s=0.5, cpu_s=0.4, peak_memory_bytes=300 * 2**20)


def a_route() -> Route:
    nodes = (TWIN, SMALL, node("m", MYSTERY, GPU=1.0), CPUS)
    run_s = {"big": 1.0, "small": 2.0, MYSTERY.name: 4.0, "cpu": 60.0}
    return plan_of(*nodes, variants=(ONE_GPU,), run_s=run_s, catalogue={**FLAVORS, MYSTERY.name: MYSTERY}).route()


@pytest.fixture
def explanation(monkeypatch: pytest.MonkeyPatch) -> Explanation:
    monkeypatch.setenv("COLUMNS", "100")
    return Explanation("classify", SEEN, a_route(), RUN, "c1")


def line_of(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def test_the_text_says_where_why_what_was_predicted_and_what_was_measured(explanation: Explanation) -> None:
    lines = str(explanation).splitlines()
    assert lines[:5] == [
        "classify: hot/big (twin), variant cuda",
        "reason: BestScore (lowest wait + run + cost)",
        "profile: cv inference (numpy uint8 [32, 224, 224, 3]; calls torchvision.models)",
        "predicted: wait 0, run 1 s, cost $1.0e-03",
        "measured:  run 500 ms, CPU 400 ms, peak 300 MiB, cost $5.0e-04, on node 01234567 (ok)",
    ]


def test_the_table_has_a_line_for_every_alternative_with_the_chosen_one_marked(explanation: Explanation) -> None:
    text = str(explanation)
    assert line_of(text, "chosen").split() == ["hot", "big", "twin", "cuda", "0", "1", "s", "×1.3", "0", "$1.0e-03", "chosen"]
    assert line_of(text, "Resources").split()[:3] == ["cold", "cpu", "cuda"]
    assert "needs 1 GPU on one node, the largest has 0" in " ".join(text.split())


def test_an_unknown_price_is_a_dash(explanation: Explanation) -> None:
    line = next(line for line in str(explanation).splitlines() if line.startswith("warm") and "mystery" in line)
    assert "$" not in line
    assert line.rstrip().endswith("-")


def test_it_fits_a_hundred_columns(explanation: Explanation) -> None:
    assert max(map(len, str(explanation).splitlines())) <= 100


def test_a_barred_alternative_keeps_its_figures_and_says_the_rule() -> None:
    route = plan_of(TWIN, CPUS, variants=(ONE_CPU,)).route()
    text = " ".join(str(Explanation("f", Fingerprint(), route)).split())
    assert "CpuHasRoom: CPU work stays off accelerators while a CPU node has room" in text
    assert "reason: OnlyFit (nothing else may take it now)" in text


def test_what_is_not_measured_yet_is_a_dash() -> None:
    text = str(Explanation("f", Fingerprint(), a_route()))
    assert line_of(text, "measured:") == "measured:  - (not finished, or not reported yet)"


def test_the_json_form_has_the_same_figures_under_stable_keys(explanation: Explanation) -> None:
    document = json.loads(json.dumps(explanation.as_json(), allow_nan=False))
    assert {key: document[key] for key in ("task", "tier", "flavor", "variant", "reason", "twin", "domain", "phase", "call_id")} == {
        "task": "classify",
        "tier": "hot",
        "flavor": "big",
        "variant": "cuda",
        "reason": "BestScore",
        "twin": True,
        "domain": "cv",
        "phase": "inference",
        "call_id": "c1",
    }
    assert document["predicted"] == {"wait_s": 0.0, "run_s": 1.0, "cost_usd": pytest.approx(0.001)}
    assert document["measured"]["cost_usd"] == pytest.approx(0.0005)
    assert [a["flavor"] for a in document["alternatives"]] == ["big", "small", MYSTERY.name, "cpu"]
    assert document["alternatives"][2]["cost_usd"] is None
    excluded = document["alternatives"][3]
    assert (excluded["excluded"], excluded["run_s"], excluded["wait_s"]) == ("Resources", None, None)


def test_a_measured_run_of_unknown_price_has_an_unknown_cost() -> None:
    route = a_route()
    unpriced = replace(route, chosen=route.chosen._replace(cost_usd=None))
    document = Explanation("f", Fingerprint(), unpriced, RUN).as_json()
    assert document["measured"]["cost_usd"] is None


def test_every_reason_that_routing_gives_has_words() -> None:
    patient = plan_of(node("b", HOT, GPU=1.0), SMALL, variants=(Variant("v", "", Resources(num_gpus=1)),), run_s={"big": 1.0, "small": 9.0})
    start(patient.candidates[0].claims, 1.0)
    assert patient.route().reason in WORDS
    codes = {value for name, value in vars(routing).items() if name.isupper() and isinstance(value, str)}
    assert codes == set(WORDS)
