"""How jobs, plans, usage and explanations look to people: never wider than 100 columns, figures in plain words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from fabric.fitted import elided, fitted
from fabric.job import JobId
from fabric.job_answers import AHEAD_KEYS, EXPLANATION_KEYS, WAY_KEYS, render_job_explanation, render_plan
from fabric.job_form import JOB_KEYS, JobView, ago, brief, format_job, format_listing, job_json, listing_json
from fabric.states import JobState
from fabric.usage_form import render_usage

NOW_S = 1_800_000_000.0
ID = JobId("01a20ba2-a8f6-7c17-9c04-39e69f3172d5")


@pytest.fixture(autouse=True)
def a_hundred_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def view(state: JobState = JobState.PENDING, **known: Any) -> JobView:
    return JobView(ID, "train", "ann", "research", "production", "program", state, NOW_S - 3700, **known)


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def way(flavor: str, **known: Any) -> dict[str, Any]:
    base = {
        "tier": "hot",
        "twin": False,
        "num_bundles": 1,
        "units": 4.0,
        "wait_s": 0.0,
        "run_s": 3600.0,
        "run_log_sd": 0.2,
        "finish_s": 3600.0,
    }
    return {**base, "flavor": flavor, "cost_usd": 12.5, "verdict": "Fit", "reason": "", "detail": "", **known}


def explained(job: JobView, **known: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"job": job_json(job), "ahead": [], "num_ahead": 0, "expected_start_s": None, "expected_start_low_s": None}
    return {**base, "expected_start_high_s": None, "ways": [], "counterfactuals": [], "events": [], "now_s": NOW_S, **known}


def test_the_keys_of_a_job_are_its_fields_and_its_values_are_json() -> None:
    assert set(JOB_KEYS) == {"twin" if each.name == "is_twin" else each.name for each in dataclasses.fields(JobView)}
    shown = job_json(view(remaining_s=math.inf, nodes=("a",), tags={"k": "v"}))
    assert (shown["state"], shown["remaining_s"], shown["nodes"], shown["twin"]) == ("PENDING", None, ["a"], False)
    assert type(shown["state"]) is str


@pytest.mark.parametrize(
    ("known", "note"),
    [
        ({"why": "Resources", "position": 3, "expected_start_s": NOW_S + 300}, "Resources #3, starts in 5m"),
        ({"why": "QuotaExhausted"}, "QuotaExhausted"),
        ({"state": JobState.RUNNING, "done": 43.0, "total": 100.0, "remaining_s": 7300.0}, "43 %, 2h01m left"),
        ({"state": JobState.RUNNING, "done": 43.0, "unit": "epochs"}, "43 epochs"),
        ({"state": JobState.FAILED, "why": "OutOfMemory", "detail": "80 GiB"}, "OutOfMemory: 80 GiB"),
        ({"state": JobState.FAILED, "why": "Error", "exit_code": 7}, "Error: exit 7"),
        ({"state": JobState.SUCCEEDED, "started_s": NOW_S - 3600, "ended_s": NOW_S - 60}, "took 59m"),
    ],
)
def test_the_note_of_a_row_says_what_matters_in_its_state(known: dict[str, Any], note: str) -> None:
    table = format_listing(listing_json([view(**known)], NOW_S))
    assert table.splitlines()[2].endswith(note)


def test_a_listing_fits_whatever_the_names_are() -> None:
    long = dataclasses.replace(
        view(), name="n" * 128, user="u" * 64, queue="q" * 64, asks="A100:4 or V100:8 or a lot more", why="Resources", detail="d" * 500
    )
    table = format_listing(listing_json([long, view(flavor="a100-80g", units=8.0, num_bundles=2, state=JobState.RUNNING)], NOW_S))
    assert widest(table) <= 100 and "a100-80g:4x2" in table and table.endswith("2 jobs: 1 pending, 1 running")
    assert format_listing(listing_json([], NOW_S)) == "no jobs"


def test_one_job_is_told_in_words() -> None:
    text = format_job(
        job_json(view(why="Priority", asks="A100:4", deadline_s=NOW_S + 21600, budget_usd=40.0, expected_start_s=NOW_S + 90)), NOW_S
    )
    assert "PENDING, Priority (others go first)" in text and "deadline in 6 h 0 m; budget $40.00" in text
    assert text.endswith("expected to start in 1 m 30 s") and "submitted 1 h 1 m ago" in text


def test_an_explanation_says_who_is_ahead_when_it_starts_and_what_would_start_it_sooner() -> None:
    ahead = [
        {"id": ID, "name": f"other-{i}", "user": "bob", "queue": "research", "asks": "A100:8", "state": "RUNNING", "remaining_s": 600.0 * i}
        for i in range(7)
    ]
    form = explained(
        view(why="Resources"),
        ahead=ahead,
        num_ahead=7,
        expected_start_s=NOW_S + 3600,
        expected_start_low_s=NOW_S + 1800,
        expected_start_high_s=NOW_S + 7200,
        ways=[way("a100-80g", wait_s=3600.0, verdict="Preempt"), way("t4", verdict="NoFit", reason="Resources", finish_s=None)],
        counterfactuals=[
            {"change": "on tier=warm", "start_s": 0.0, "finish_delta_s": 42.0, "cost_delta_usd": -0.03},
            {"change": "if it asks for ≤ 20 GB", "start_s": 0.0, "finish_delta_s": None, "cost_delta_usd": None},
            {"change": "with 2 GPUs", "start_s": 90.0, "finish_delta_s": -600.0, "cost_delta_usd": 1.5},
        ],
        events=[{"wall_s": NOW_S - 60, "kind": "JobSubmitted", "by": "ann", "text": "submitted by ann"}],
    )
    assert set(form) == EXPLANATION_KEYS and set(ahead[0]) == AHEAD_KEYS and set(form["ways"][0]) == WAY_KEYS
    text = render_job_explanation(form)
    lines = text.splitlines()
    assert "starts now on tier=warm: +42 s, −$0.03" in lines and "starts now if it asks for ≤ 20 GB" in lines
    assert "starts in 1 m 30 s with 2 GPUs: −10 m 0 s, +$1.50" in lines
    assert "… and 2 more" in lines and "other-4" in text and "other-5" not in text
    assert any(line.startswith("expected start: in 1 h 0 m (") and "between 30m and 2h00m from now" in line for line in lines)
    assert "Preempt" in text and "NoFit Resources" in text and "1m ago  submitted by ann" in text and widest(text) <= 100


def test_a_running_job_is_explained_by_where_it_is() -> None:
    running = view(JobState.RUNNING, flavor="a100-80g", units=4.0, num_bundles=1, attempt=1, started_s=NOW_S - 60, cost_usd=0.4)
    text = render_job_explanation(explained(running, ways=[way("a100-80g"), way("v100")]))
    assert next(line for line in text.splitlines() if line.endswith("here")).split()[1] == "a100-80g:4" and "ahead" not in text


@pytest.mark.parametrize(
    ("chosen", "last"), [(1, "chosen: v100:4, starts in 2 m 0 s, $1.00: Cheaper (it is)"), (None, "cannot start: Cheaper (it is)")]
)
def test_a_plan_marks_the_chosen_way(chosen: int | None, last: str) -> None:
    form = {
        "job": {"name": "train", "user": "ann", "queue": "research", "asks": ""},
        "chosen": chosen,
        "reason": "Cheaper",
        "detail": "it is",
    }
    text = render_plan({**form, "ways": [way("a100"), way("v100", wait_s=120.0, cost_usd=1.0, twin=True)], "now_s": NOW_S})
    assert text.splitlines()[-1].replace(" twin", "") == last and "v100:4 twin" in text and widest(text) <= 100


def test_usage_shows_the_dearest_first() -> None:
    hours = {"accelerator_hours": 5.25, "vcpu_hours": 1.5}
    row = {"pending": 1, "running": 2, "ended": 3, "units": 4.0, **hours, "share_frac": 0.5, "weight": 1.0}
    rows = [
        {**row, "name": "cheap", "cost_usd": 1.0, "budget_usd": None, "budget_left_usd": None},
        {**row, "name": "dear", "cost_usd": 9.0, "budget_usd": 10.0, "budget_left_usd": -3.0},
    ]
    lines = render_usage({"by": "queue", "rows": rows, "now_s": NOW_S}).splitlines()
    assert lines[2].startswith("dear") and lines[2].endswith("$0 of $10.00") and lines[3].endswith("-")
    assert render_usage({"by": "user", "rows": [], "now_s": NOW_S}) == "nothing was used yet"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (7260, "2h01m"), (90000, "1d1h"), (None, "-"), (math.inf, "-"), (-5, "0s")]
)
def test_brief_lengths_of_time(seconds: float | None, text: str) -> None:
    assert brief(seconds) == text


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    evil = dataclasses.replace(view(JobState.FAILED, why="Error", detail="x\x1b[2J"), name="a\x9b2Jb", command="\x1b]0;title\x07")
    for text in (format_listing(listing_json([evil], NOW_S)), format_job(job_json(evil), NOW_S), render_job_explanation(explained(evil))):
        assert text.replace("\n", "").isprintable() and "�" in text


def test_moments_are_relative() -> None:
    assert [ago(at, 1000.0) for at in (1000.5, 940.0, 1060.0, None)] == ["now", "1 m 0 s ago", "in 1 m 0 s", "-"]


def test_what_is_too_long_is_elided_on_one_line() -> None:
    assert (elided("a\n b", 9), elided("abcdef", 4), elided("abcd", 4)) == ("a b", "abc…", "abcd")
    table = fitted(["a", "b"], [["x" * 300, "y" * 300]], most={"a": 10}, width=40)
    assert {len(line) for line in table.splitlines()[1:]} == {40}
