"""Every view of the console's page, over a made-up fabric that the real server serves: its data, its looks, its names."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from benchmarks.console.chromium import CHROMIUM
from tests.console_browser import PHONE, Site, Witness
from tests.console_pages import LANDMARKS, VIEWS, Opener, shown, violations

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed")


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_its_data_in_every_look(site: Site, opened: Opener, witness: Witness, view: str) -> None:
    page = shown(opened, site, view)
    page.wait_for_selector(".live.live")
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="light")
    page.wait_for_selector(LANDMARKS[view])
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert witness.seen == []
    # Names of the made-up fabric are scripts and images: they are text, whatever shows them.
    assert page.locator("#page script, #page img, #page iframe, #page b b").count() == 0


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_opens_on_a_phone(site: Site, opened: Opener, view: str) -> None:
    page = shown(opened, site, view, size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_violation_in_what_comes_and_goes(site: Site, opened: Opener, dark: bool) -> None:
    door = opened(token="tf_000000000000_nothing", dark=dark)
    door.get_by_text("This token opens nothing here").wait_for()
    assert violations(door) == []
    page = shown(opened, site, "model", dark=dark)
    page.get_by_role("button", name="Roll back").click()
    page.wait_for_selector("dialog[open]")
    assert violations(page) == []
    page.get_by_label("To version").fill("2")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    page.wait_for_selector(".notice")
    assert violations(page) == []
    page = shown(opened, site, "timeline", dark=dark)
    page.get_by_role("button", name="Table").click()
    page.wait_for_selector("table")
    assert violations(page) == []


def test_names_that_are_markup_are_shown_as_they_are_written(site: Site, opened: Opener, witness: Witness) -> None:
    page = shown(opened, site, "queue")
    for name in ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'):
        page.get_by_role("searchbox", name="Search jobs").fill(name[:12])
        page.wait_for_function("name => document.querySelector('.virtual-body a')?.textContent.startsWith(name)", arg=name)
    assert witness.seen == []


def test_a_panel_that_the_fabric_does_not_have_is_not_there(site: Site, opened: Opener) -> None:
    page = opened(scope="read")
    overview = site.ask("/v1/console/overview")
    overview["panels"] = ["pools", "queue"]
    page.route("**/v1/console/overview", lambda route: route.fulfill(json=overview))
    page.route("**/v1/console/events", lambda route: route.abort())
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('nav a').length === 2")
    page.evaluate("location.hash = '#/models'")
    page.get_by_text("There is nothing here").wait_for()


def test_a_job_says_why_it_waits_who_is_ahead_and_when_it_starts(site: Site, opened: Opener) -> None:
    job = site.jobs("PENDING", 40)[-1]
    page = opened(f"#/job/{job['id']}")
    page.get_by_role("heading", name=re.compile(r"\d+ jobs? ahead of it")).wait_for()
    text = page.locator("section", has=page.locator("#why")).inner_text()
    assert "others go first" in text
    assert re.search(r"between \d+\w+ and \d+\w+ from now", text)
    assert page.get_by_role("table", name="Ways to run this job").locator("tbody tr").count() == 3


def test_a_job_that_has_ended_has_predictions_and_measurements_side_by_side(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "ended job")
    assert page.locator("#ways").inner_text() == "Where it could have run"
    ways = page.get_by_role("table", name="Ways to run this job")
    assert ways.locator("th[scope=col]").all_inner_texts() == ["tier", "on", "run", "cost", "family took", "verdict"]


# ---- tasks


def test_a_task_is_found_opened_and_shows_what_was_measured_beside_the_prediction(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "tasks")
    page.get_by_role("searchbox", name="Search tasks").fill("embed")
    page.wait_for_function("() => document.querySelectorAll('.virtual-body .row').length === 1")
    assert page.evaluate("location.hash") == "#/tasks?text=embed"
    page.get_by_role("grid", name="Tasks").focus()
    page.keyboard.press("Enter")
    table = page.get_by_role("table", name="Ways to run a call of this task")
    table.wait_for()
    first = table.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert (first[1].split()[:2], first[5].split("×")[0].strip(), first[7]) == (["a100-80g", "cuda"], "11 ms", "616")
    assert "No roofline: its FLOPs are not known" in page.locator("section", has=page.locator("#roofline")).inner_text()
    assert page.title().startswith("embed@")


def test_a_served_models_task_has_a_roofline_with_its_figures_as_a_table(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "task of a model")
    rows = page.get_by_role("table", name="Figures of the roofline of model:resnet-50.v2").locator("tbody tr")
    found = [rows.nth(number).locator("th, td").all_inner_texts() for number in range(rows.count())]
    assert {cells[1]: cells[-1] for cells in found} == {"a100-80g": "predicted", "t4": "measured", "cpu ×4": "measured"}


def test_tasks_are_no_panel_for_a_token_that_may_not_read(site: Site, opened: Opener) -> None:
    page = opened("#/tasks", scope="submit")
    page.get_by_text("There is nothing here").wait_for()
    assert page.get_by_role("link", name="Tasks").count() == 0


def test_a_task_that_nobody_knows_says_so(site: Site, opened: Opener) -> None:
    opened("#/tasks/nobody").get_by_text("There is no such task").wait_for()


def test_output_is_followed_to_its_end(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "running job")
    page.wait_for_function("() => document.querySelector('.log').textContent.includes('step  6000')")
    page.get_by_text("complete").wait_for()
    assert quote("<img") not in page.locator(".log").inner_text()
    assert "<img src=x onerror=alert(1)>" in page.locator(".log").inner_text()
