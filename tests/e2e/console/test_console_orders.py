"""What is ordered on the console's page: jobs, nodes, models, policies, files; once, by whom may, and told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.console.chromium import CHROMIUM
from tests.console_browser import Site, Witness
from tests.console_pages import Opener, answers, shown

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed")


def job_of_ann(site: Site) -> Any:
    return next(job for job in site.jobs("PENDING", 400) if job["user"] == "ann")


def tab_to(page: Any, what: str, wanted: str) -> None:
    """By the key Tab alone, until this of the element in focus is as wanted."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.{what}") == wanted:
            break


def test_a_job_is_cancelled_by_the_keyboard_alone(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "queue")
    job = job_of_ann(site)
    tab_to(page, "getAttribute('aria-label')", "Search jobs")
    page.keyboard.type(job["id"])
    page.wait_for_function("() => document.querySelector('.virtual').getAttribute('aria-rowcount') === '2'")
    tab_to(page, "getAttribute('role')", "grid")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_function("id => location.hash === `#/job/${id}`", arg=job["id"])
    page.wait_for_selector("#why")
    tab_to(page, "textContent.trim()", "Cancel")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".job-head .state.cancelled")
    assert site.ask(f"/v1/jobs/{job['id']}")["state"] == "CANCELLED"


def test_arrow_keys_go_through_ten_thousand_rows_without_losing_the_current_one(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "queue")
    page.locator(".virtual").focus()
    page.keyboard.press("End")
    page.wait_for_function(
        "() => { const grid = document.querySelector('.virtual'), row = document.getElementById(grid.ariaActiveDescendantElement?.id);"
        " return row?.ariaRowIndex === grid.ariaRowCount && row.querySelector('.state') }"
    )
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('.virtual .current')?.getAttribute('aria-rowindex') === '2'")


def test_two_pages_cancel_the_same_job_and_both_are_told_that_it_is(site: Site, opened: Opener, witness: Witness) -> None:
    job = job_of_ann(site)
    pages = [opened(f"#/job/{job['id']}") for _ in range(2)]
    for page in pages:
        page.get_by_role("button", name="Cancel this job").click()
        page.wait_for_selector("dialog[open]")
    for page in pages:
        page.get_by_role("button", name="Cancel the job").click(no_wait_after=True)
    for page in pages:
        page.wait_for_selector(".notice:not(.bad)")
        page.wait_for_selector(".job-head .state.cancelled")
        assert page.get_by_role("button", name="Cancel this job").count() == 0
    assert witness.seen == []


def test_an_order_is_sent_once_however_often_it_is_pressed(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "model")
    site.api.orders.clear()
    with answers(page, "/pause"):
        page.get_by_role("button", name="Pause").evaluate("button => { button.click(); button.click(); button.click() }")
    page.get_by_role("button", name="Resume").wait_for()
    assert [path for path, _ in site.api.orders] == ["/v1/rollouts/resnet-50/pause"]
    with answers(page, "/resume"):
        page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Pause").wait_for()


def test_leaving_the_question_sends_nothing(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "model")
    site.api.orders.clear()
    page.get_by_role("button", name="Abort").click()
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("button", name="Leave it").click()
    page.wait_for_selector("dialog", state="detached")
    assert site.api.orders == []


def test_a_node_is_drained_with_a_deadline(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "pools")
    site.api.orders.clear()
    page.locator("section.nodes .virtual").focus()
    row = page.locator("section.nodes .row.current")
    row.get_by_role("button", name=re.compile("^Drain")).click()
    page.get_by_label("Seconds until").fill("90")
    with answers(page, "/drain"):
        page.get_by_role("button", name="Drain it").click()
    ((path, body),) = site.api.orders
    assert re.fullmatch(r"/v1/nodes/[^/]+/drain", path)
    assert body == {"deadline_s": 90}


def test_what_the_fabric_refuses_is_told_in_its_words(site: Site, opened: Opener) -> None:
    page = opened(f"#/job/{job_of_ann(site)['id']}")
    page.get_by_role("button", name="Priority of").click()
    page.get_by_label("Priority class").fill("hihg")
    page.get_by_role("button", name="Change it").click()
    page.get_by_text("did you mean high?").wait_for()


def test_a_raised_job_is_told_so_and_the_classes_are_offered(site: Site, opened: Opener) -> None:
    page = opened(f"#/job/{job_of_ann(site)['id']}")
    site.api.orders.clear()
    page.get_by_role("button", name="Priority of").click()
    page.get_by_text("The policy has: high, low").wait_for()
    page.get_by_label("Priority class").fill("high")
    page.get_by_role("button", name="Change it").click()
    page.get_by_text("is now of class high").wait_for()
    assert site.api.orders[-1][1] == {"priority": "high"}


def test_a_policy_is_tried_and_both_sides_are_shown(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "policy")
    page.get_by_role("button", name="Begin with the one in force").click()
    page.get_by_role("button", name="Replay").click()
    page.get_by_role("rowheader", name="utilisation").wait_for()
    assert "better" in page.locator("table").inner_text()
    assert site.api.orders[-1][1]["since"] == "24h"
    assert "priorityClasses" in site.api.orders[-1][1]["document"]


def test_a_what_if_is_stopped_and_ends_in_the_fabric_too(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "policy")
    page.get_by_role("button", name="Begin with the one in force").click()
    page.get_by_role("button", name="Replay").click()
    with answers(page, "/cancel"):
        page.get_by_role("button", name="Stop").click()
    page.get_by_role("progressbar", name="Replay").wait_for(state="detached")
    assert page.get_by_role("button", name="Replay").is_enabled()
    assert site.api.orders[-1][0] == "/v1/policy/what-if/1/cancel"


def test_usage_is_saved_as_a_file(site: Site, opened: Opener, tmp_path: Path) -> None:
    page = shown(opened, site, "usage")
    with page.expect_download() as found:
        page.get_by_role("button", name="CSV").click()
    assert found.value.suggested_filename == "usage-by-user.csv"
    found.value.save_as(tmp_path / "usage.csv")
    assert (tmp_path / "usage.csv").read_text().startswith("name,cost_usd")
