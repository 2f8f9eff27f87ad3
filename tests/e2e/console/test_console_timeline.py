"""The timeline on the console's page: zoomed, moved, read, followed to a job."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.console.chromium import CHROMIUM
from tests.console_browser import Site
from tests.console_pages import Opener, shown

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed")


LAST_ASKED = "performance.getEntriesByType('resource').findLast((each) => each.name.includes('/v1/console/timeline')).name"


def window_of(page: Any) -> list[float]:
    query = page.evaluate(LAST_ASKED)
    return [float(re.search(rf"{key}=([\d.]+)", query)[1]) for key in ("from_s", "to_s")]  # type: ignore[index]


def test_the_timeline_zooms_where_the_pointer_is_and_moves_with_it(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "timeline")
    from_s, to_s = window_of(page)
    box = page.locator(".timeline-plot .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
    page.mouse.wheel(0, -120)
    asked = f"const asked = new URL({LAST_ASKED}).searchParams"
    page.wait_for_function(f"least => {{ {asked}; return asked.get('to_s') - asked.get('from_s') < least }}", arg=0.9 * (to_s - from_s))
    nearer = window_of(page)
    assert nearer[0] - from_s < to_s - nearer[1]  # the quarter on the left stays where it was
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + 100, steps=6)
    page.mouse.up()
    page.wait_for_function(f"least => {{ {asked}; return asked.get('from_s') < least }}", arg=nearer[0])
    earlier = window_of(page)
    assert earlier[1] - earlier[0] == pytest.approx(nearer[1] - nearer[0], rel=0.01)


def test_the_timeline_is_moved_by_keys_and_read_as_a_table(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "timeline")
    before = window_of(page)
    page.locator(".timeline-scroll").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"least => new URL({LAST_ASKED}).searchParams.get('from_s') < least", arg=before[0])
    page.get_by_role("button", name="Table").click()
    page.get_by_role("table", name="Leases and marks in this window").wait_for()
    link = page.locator("tbody a").first
    name = link.inner_text()
    link.click()
    page.wait_for_selector(".job-head h1")
    assert page.locator(".job-head h1").inner_text() == name


def test_a_click_on_a_bar_opens_its_job(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "timeline")
    box = page.locator(".timeline-plot .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 6, box["y"] + 6)  # what runs now on the first lane
    page.wait_for_selector(".tip")
    page.mouse.click(box["x"] + box["width"] - 6, box["y"] + 6)
    page.wait_for_function("() => location.hash.startsWith('#/job/')")
