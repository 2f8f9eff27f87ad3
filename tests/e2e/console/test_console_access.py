"""Who sees what on the console's page, and what the page does with a token."""

from __future__ import annotations

import pytest

from benchmarks.console.chromium import CHROMIUM
from fabric.api.tokens import Tokens
from tests.console_browser import Site, Witness
from tests.console_pages import LANDMARKS, Opener, shown

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed")


def test_without_a_good_token_there_is_a_field_for_one_and_nothing_else(site: Site, opened: Opener, witness: Witness) -> None:
    page = opened(token="tf_000000000000_nothing")
    page.get_by_text("This token opens nothing here").wait_for()
    assert "token" not in page.url
    assert page.locator("nav, .virtual, .figures").count() == 0
    page.get_by_label("Token").fill(site.world.tokens["read"])
    page.get_by_role("button", name="Open").click()
    page.wait_for_selector("section.nodes .virtual-body .row .health")
    assert all("401" in each for each in witness.seen)


def test_a_token_that_only_asks_models_is_told_that_it_sees_nothing_here(site: Site, opened: Opener) -> None:
    token, _ = Tokens(site.world.journal).mint("ann", ("infer",))
    page = opened(token=token)
    page.wait_for_selector(".door .problem")
    assert page.locator("nav, .virtual, .figures").count() == 0


def test_a_token_that_is_revoked_closes_the_page(site: Site, opened: Opener) -> None:
    tokens = Tokens(site.world.journal)
    token, record = tokens.mint("ann", ("read",), by="ann")
    page = opened(token=token)
    page.wait_for_selector(".live.live")
    tokens.revoke(record.id)
    page.wait_for_selector(".door .problem")
    assert page.locator("nav, .virtual, .figures").count() == 0


def test_the_token_leaves_the_address_and_is_sent_in_a_header_alone(site: Site, opened: Opener) -> None:
    page = opened("#/queue")
    page.wait_for_selector(LANDMARKS["queue"])
    assert page.evaluate("[location.hash.includes('token'), document.cookie, localStorage.length]") == [False, "", 0]


def test_who_may_only_read_gets_no_orders(site: Site, opened: Opener) -> None:
    page = shown(opened, site, "pools", scope="read")
    page.wait_for_selector("button[aria-label^=Cordon]:disabled", state="attached")
    assert page.locator("button[aria-label^=Drain]:enabled").count() == 0
