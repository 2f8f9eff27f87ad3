"""The browser, and the made-up fabric before which it opens the console's page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.console.chromium import launched
from tests.console_browser import NETWORK_CHANGED, WIDE, Site, Witness, made_up_site
from tests.console_pages import SHOWN_MS, Opener


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_up_site(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def opened(site: Site, browser: Any, witness: Witness) -> Iterator[Opener]:
    """`opened("#/queue", scope="read", dark=True, size=PHONE, token=…, script=…)` -> a page on which that view is shown."""
    contexts = []

    def open_page(
        view: str = "#/pools", *, scope: str = "admin", dark: bool = False, size: Any = WIDE, token: str | None = None, script: str = ""
    ) -> Any:
        context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SHOWN_MS)
        witness.watch(page, site.url)
        if script:
            page.add_init_script(script)
        page.goto(f"{site.url}/#token={token or site.world.tokens[scope]}")
        has_begun(page, witness)
        if token is None:
            page.wait_for_selector("main.view")
            page.evaluate("hash => { location.hash = hash }", view)
            page.wait_for_function("hash => location.hash.startsWith(hash)", arg=view)
        return page

    yield open_page
    for context in contexts:
        context.close()


def has_begun(page: Any, witness: Witness) -> None:
    """A browser drops what it loads when the machine gets or loses a network meanwhile, as other tests make it: it is told to load anew."""
    from playwright.sync_api import TimeoutError as ShownTooLate

    for _ in range(3):
        try:
            page.wait_for_selector("main", timeout=SHOWN_MS / 3)
            return
        except ShownTooLate:
            if not any(NETWORK_CHANGED in each for each in witness.dropped):
                break
            witness.dropped.clear()
            page.reload()
    pytest.fail(f"the page did not begin: {witness.seen}, {witness.dropped}")
