"""The console's page keeps up: facts that come, a clock that is wrong, a fabric that is gone for a while."""

from __future__ import annotations

import time

import pytest

from benchmarks.console.chromium import CHROMIUM
from tests.console_browser import Site
from tests.console_pages import Opener, shown, violations

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed")


def test_a_fact_in_the_journal_reaches_the_page_by_itself(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "queue")
    before = site.ask("/v1/console/jobs?limit=1")["total"]
    site.world.life.step()
    page.wait_for_function("total => Number(document.querySelector('#jobs .faint').textContent.replaceAll(',', '')) > total", arg=before)


AWAY_MS = 5 * 3600 * 1000
OTHER_CLOCK = f"""
const Right = Date;
class Wrong extends Right {{
  constructor(...given) {{ super(...(given.length ? given : [Right.now() - {AWAY_MS}])); }}
  static now() {{ return Right.now() - {AWAY_MS}; }}
}}
window.Date = Wrong;
"""


def test_a_browser_whose_clock_is_five_hours_wrong_shows_right_ages(site: Site, opened: Opener) -> None:
    job = site.jobs("RUNNING")[0]
    page = opened(f"#/job/{job['id']}", script=OTHER_CLOCK)
    told = page.locator(".fact", has_text="submitted").locator("dd")
    told.wait_for()
    page.wait_for_selector("#used")
    age_s = site.ask("/v1/console/overview")["now_s"] - job["submitted_s"]
    hours, minutes = divmod(int(age_s) // 60, 60)
    words = {f"{hours} h {minutes + late} m ago".replace(" 0 m", "") for late in (0, 1)} if hours < 24 else {told.inner_text()}
    assert abs(page.evaluate("Date.now()") / 1000 - time.time() + AWAY_MS / 1000) < 60
    assert told.inner_text() in words


def test_a_fabric_that_is_gone_is_told_and_the_page_comes_back_by_itself(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "queue")
    page.wait_for_selector(".live.live")
    site.stop()
    try:
        page.wait_for_selector(".banner.bad")
        assert violations(page) == []
        assert "does not answer" in page.locator(".banner").inner_text()
        assert page.locator(".virtual-body .row .state").count() > 5  # what was known stays
    finally:
        site.start()
    page.wait_for_selector(".banner.bad", state="detached")
    page.wait_for_selector(".live.live")
    before = site.ask("/v1/console/jobs?limit=1")["total"]
    site.world.life.step()
    page.wait_for_function("total => Number(document.querySelector('#jobs .faint').textContent.replaceAll(',', '')) > total", arg=before)
