"""Answers in a notebook: the words of the terminal, every value of the form, and nothing that a name could run or fetch."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from fabric.blocks import Lines, Table, text_of
from fabric.efficiency_form import job_efficiency_blocks
from fabric.errors import UnavailableError
from fabric.explanation import Explanation
from fabric.job import JobId
from fabric.job_answers import job_explanation_blocks, plan_blocks
from fabric.job_form import JobView, job_json, listing_json
from fabric.job_handle import Answer, Job, JobArray
from fabric.notebook import STYLE, answer_html, escaped, text_html
from fabric.states import JobState
from fabric.status_form import fabric_json, pool_json, status_blocks
from fabric.types import Fingerprint, PoolSnapshot, Run
from fabric.usage_form import MODEL_ROW_KEYS, usage_blocks
from fabric.what_if_form import SIDE_KEYS, WHAT_IF_KEYS, what_if_blocks
from tests.fleet import BIG, CPUS, FLAVORS, ONE_GPU, plan_of

NOW_S = 1_800_000_000.0
ID = JobId("01a20ba2-a8f6-7c17-9c04-39e69f3172d5")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></table></details><svg/onload=alert(1)>",
    "&lt;b&gt;&#x3c;",
    "</style><script src=//evil.example/x.js></script>",
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "<!--", "]]>", "\u202egnp.exe", "\x1b[2J", "\x00", "a\u2028b",
)  # fmt: skip
SAFE_TAGS = {"style", "div", "p", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre"}
SAFE_ATTRIBUTES = {("class", None), ("scope", "col"), ("scope", "row")}
CLASSES = {"fabric-answer", "lines", "wide", "figure", "marked"}


class Page(HTMLParser):
    """Reads HTML as a browser would; fails at a tag that is not ours or that does not close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.marked: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SAFE_TAGS, tag
        for name, value in attrs:
            assert value in CLASSES if name == "class" else (name, value) in SAFE_ATTRIBUTES, (name, value)
        self.open.append(tag)
        self.texts.append("")
        if tag == "tr":
            self.rows.append([])
            if ("class", "marked") in attrs:
                self.marked.append(len(self.rows) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.rows[-1].append(self.texts[-1])
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.texts[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def leaves(value: Any) -> Iterator[Any]:
    """Every key and every value of a form."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def shown(value: Any) -> str:
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in value) if isinstance(value, str) else json.dumps(value)


def job_form(word: str = "train") -> dict[str, Any]:
    view = JobView(
        ID, word, word, word, word, "program", JobState.RUNNING, NOW_S - 3700, why="Resources", detail=word, asks=word, command=word,
        attempt=2, flavor=word, tier="hot", num_bundles=2, units=8.0, nodes=(word, "n2"), started_s=NOW_S - 60.5, done=43.0, total=100.0,
        unit=word, remaining_s=7300.0, remaining_log_sd=0.25, cost_usd=1.25, exit_code=7, after=(ID,), array_id=ID, family=word,
        tags={word: word}, budget_usd=40.0, deadline_s=NOW_S + 60,
    )  # fmt: skip
    return job_json(view)


def way(word: str) -> dict[str, Any]:
    base = {"flavor": word, "tier": word, "twin": True, "num_bundles": 1, "units": 4.0, "wait_s": 90.0, "run_s": 3600.0, "run_log_sd": 0.2}
    return {**base, "finish_s": 3690.0, "cost_usd": 12.5, "verdict": "Preempt", "reason": word, "detail": word}


def plan_form(word: str = "train") -> dict[str, Any]:
    job = {"name": word, "user": word, "queue": word, "asks": word}
    return {"job": job, "ways": [way("t4"), way(word)], "chosen": 1, "reason": word, "detail": word, "now_s": NOW_S}


def explanation_form(word: str = "train") -> dict[str, Any]:
    ahead = {"id": ID, "name": word, "user": word, "queue": word, "asks": word, "state": "RUNNING", "remaining_s": 600.0}
    expected = {"expected_start_s": NOW_S + 10, "expected_start_low_s": NOW_S + 5, "expected_start_high_s": NOW_S + 20}
    change = {"change": word, "start_s": 0.0, "finish_delta_s": 42.0, "cost_delta_usd": -0.5}
    event = {"wall_s": NOW_S - 60, "kind": word, "by": word, "text": word}
    job = {**job_form(word), "state": "PENDING", "position": 3}
    listed = {"ahead": [ahead], "num_ahead": 7, "ways": [way(word)], "counterfactuals": [change], "events": [event]}
    return {"job": job, **listed, **expected, "now_s": NOW_S}


def status_form(word: str = "lab") -> dict[str, Any]:
    nodes = (dataclasses.replace(BIG, host=word, node_id=word or "n"), CPUS)
    pools = [pool_json(PoolSnapshot("hot", 1, nodes, (), 0.5), FLAVORS, problem=word)]
    shipping = {
        "storage_url": word,
        "silent_s": 1.0,
        "databases": {word: {"state": "failing", "lag_s": 2.0, "changes": 3, "bytes": 4, "error": word}},
    }
    return fabric_json(word, word, pools, [word], (), shipping)


def usage_form(word: str = "resnet") -> dict[str, Any]:
    row = dict(zip(MODEL_ROW_KEYS, (word, word, 2, 0.8, 12, 3, 10.0, {word: 7.5}, 6.0, 0.5, 1.0, 1.8e9), strict=True))
    return {"by": "model", "rows": [row], "now_s": NOW_S}


def what_if_form(word: str = "bob") -> dict[str, Any]:
    side = dict(zip(SIDE_KEYS, (12, 1.0, 2.0, 7200.0, 40.0, 0.5, 0, 3), strict=True))
    told = {"jobs": 12, "since_s": 60.0, "left_out": 1, "left_out_why": {word: 1}, "current": side, "proposed": {**side, "jct_h": 0.5}}
    return dict.fromkeys(WHAT_IF_KEYS) | told | {"by": word, "recorded": {"jct_h": 1.0, "makespan_s": 2.0}}


def efficiency_form(word: str = "train") -> dict[str, Any]:
    row = {
        "name": word, "jobs": 1, "runs": 0, "wall_s": 120.5, "cpus_asked": 4.0, "cpus_used": 1.5, "cpu_frac": 0.375,
        "memory_asked_bytes": 2**33, "memory_peak_bytes": 2**31, "memory_frac": 0.25, "gpu_frac": 0.125, "gpu_memory_bytes": 2**34,
        "gpu_memory_peak_bytes": 2**33, "cost_usd": 4.5, "wasted_usd": 3.25, "hints": [word],
    }  # fmt: skip
    return {"job": job_form(word), "timeout_s": 300.0, **row}


FORMS: dict[str, tuple[Any, Any]] = {
    "plan": (plan_form, plan_blocks),
    "explanation": (explanation_form, job_explanation_blocks),
    "efficiency": (efficiency_form, job_efficiency_blocks),
    "status": (status_form, status_blocks),
    "usage": (usage_form, usage_blocks),
    "what-if": (what_if_form, what_if_blocks),
}


class Api:
    """Answers what it is given, or is away."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, path: str, query: Any = None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def html_of(name: str, form: dict[str, Any]) -> str:
    return Answer(form, FORMS[name][1])._repr_html_()


# -- nothing runs, nothing is fetched --------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("name", FORMS)
def test_a_hostile_name_in_every_field_is_text(name: str, word: str) -> None:
    page = Page(html_of(name, FORMS[name][0](word)))
    assert shown(word) in "\n".join(page.texts)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_job_is_text(word: str) -> None:
    job = Job(Api(job_form(word)), ID, word)  # type: ignore[arg-type]
    array = JobArray(Api(listing_json([], NOW_S) | {"jobs": [job_form(word)]}), ID, [job])  # type: ignore[arg-type]
    for html in (job._repr_html_(), array._repr_html_(), text_html(word)):
        assert shown(word) in "\n".join(Page(html).texts)


def test_the_style_asks_nobody_for_anything_and_takes_its_colours_from_the_notebook() -> None:
    assert not re.search(r"url\(|@import|https?:|//|expression|<", STYLE)
    assert "currentColor" in STYLE and "prefers-color-scheme: dark" in STYLE and "var(--jp-ui-font-color1, inherit)" in STYLE
    selectors = [line.split("{")[0].strip() for line in STYLE.splitlines() if "{" in line and not line.startswith("@media")]
    assert all(".fabric-answer" in selector for selector in selectors), "nothing else of the notebook is touched"


def test_what_steers_or_turns_text_around_is_shown_and_does_nothing() -> None:
    assert escaped("a\x1b[2J\u202eb<\"'&") == "a�[2J�b&lt;&quot;&#x27;&amp;"


# -- everything is there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_every_key_and_every_value_of_the_form_is_there(name: str) -> None:
    form = FORMS[name][0]()
    text = "\n".join(Page(html_of(name, form)).texts)
    assert [leaf for leaf in leaves(form) if shown(leaf) not in text] == []


def test_every_value_of_a_job_is_there() -> None:
    form = job_form()
    page = Page(Job(Api(form), ID)._repr_html_())  # type: ignore[arg-type]
    assert [leaf for leaf in leaves(form) if shown(leaf) not in "\n".join(page.texts)] == []
    assert ["remaining_log_sd", "0.25"] in page.rows and ["exit_code", "7"] in page.rows


@pytest.mark.parametrize("name", FORMS)
def test_the_words_and_columns_are_those_of_the_terminal(name: str) -> None:
    """Whatever the terminal says stands in the page, too."""
    form = FORMS[name][0]()
    page = Page(html_of(name, form))
    said = re.sub(r"\s+", " ", " ".join(page.texts))
    for block in FORMS[name][1](form):
        if isinstance(block, Table):
            assert list(block.columns) in page.rows
            assert all(list(row) in page.rows for row in block.rows)
        else:
            assert all(re.sub(r"\s+", " ", line.strip()) in said for line in block.lines)


def test_the_chosen_way_is_marked_and_figures_stand_to_the_right() -> None:
    html = html_of("plan", plan_form())
    page = Page(html)
    assert page.marked == [2] and page.rows[2][1].startswith("train:4")
    assert html.count('<td class="figure">') == 2 * 5 and '<th scope="col" class="figure">wait</th>' in html


def test_a_route_shows_its_alternatives_beside_what_was_measured() -> None:
    route = plan_of(BIG, CPUS, variants=(ONE_GPU,)).route()
    run = Run("c1", "classify", 3, "cuda", "big", "0123456789abcdef", wall_s=0.5, cpu_s=0.4, peak_memory_bytes=300 * 2**20)
    explanation = Explanation("classify", Fingerprint("cv", "inference", ("<b>torch</b>",)), route, run, "c1")
    page = Page(explanation._repr_html_())
    text = "\n".join(page.texts)
    assert "reason: OnlyFit" in text and "measured:  run 500 ms" in text and "<b>torch</b>" in text
    assert page.marked and page.rows[page.marked[0]][-1] == "chosen"
    assert [leaf for leaf in leaves(explanation.as_json()) if shown(leaf) not in text] == []


# -- the rest --------------------------------------------------------------------------------------------------------------


def test_text_alone_stands_as_it_is() -> None:
    assert text_html("a  b\n<c>") == "<pre>a  b\n&lt;c&gt;</pre>"


def test_a_job_of_a_fabric_that_is_away_says_so_instead_of_failing() -> None:
    away = Api(UnavailableError("no fabric", hint="`fabric up` starts one"))
    for what in (Job(away, ID, "train"), JobArray(away, ID, [])):  # type: ignore[arg-type]
        text = "".join(Page(what._repr_html_()).texts)
        assert repr(what) in text and "error[unavailable]: no fabric" in text and "fabric up" in text


def test_an_array_is_a_table_of_its_jobs() -> None:
    jobs = {"jobs": [job_form("a"), job_form("b")], "states": {"RUNNING": 2}, "now_s": NOW_S}
    page = Page(JobArray(Api(jobs), ID, [])._repr_html_())  # type: ignore[arg-type]
    assert page.rows[0] == ["id", "job", "state", "on", "age", "note"] and [row[1] for row in page.rows[1:3]] == ["a", "b"]
    assert "2 jobs: 2 running" in "\n".join(page.texts)


def test_blocks_print_as_tables_that_fit_and_lines() -> None:
    table = Table(["name", "n"], [["a" * 50, "1"]], ["n"], {"name": 10}, after="… and 2 more")
    assert text_of([Lines(["one", "two"]), table]).splitlines() == [
        "one", "two", "", "name        n", "─────────────", "aaaaaaaaa…  1", "… and 2 more",
    ]  # fmt: skip
    assert "\x1b" not in text_of([Lines(["\x1b[2J"])])


def test_nothing_at_all_is_an_answer_too() -> None:
    assert Page(answer_html([], {})).rows == []
    assert "nothing was used yet" in html_of("usage", {"by": "user", "rows": [], "now_s": NOW_S})
