"""The console's page in a browser: every view over a made-up fabric that the real server serves, as people use it and as they misuse it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fabric.api.tokens import Tokens
from tests.console_browser import ARGS, CHROMIUM, NETWORK_CHANGED, PHONE, WIDE, Site, Witness, made_up_site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

SHOWN_MS = 15_000
VIEWS = (
    *("pools", "timeline", "queue", "waiting job", "running job", "ended job"),
    *("tasks", "task", "task of a model", "models", "model", "policy", "usage"),
)
OPENER = Callable[..., Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_up_site(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def opened(site: Site, browser: Any, witness: Witness) -> Iterator[OPENER]:
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
    for _ in range(3):
        try:
            page.wait_for_selector("main", timeout=SHOWN_MS / 3)
            return
        except sync_api.TimeoutError:
            if not any(NETWORK_CHANGED in each for each in witness.dropped):
                break
            witness.dropped.clear()
            page.reload()
    pytest.fail(f"the page did not begin: {witness.seen}, {witness.dropped}")


def address_of(site: Site, view: str) -> str:
    if view.endswith(" job"):
        state = {"waiting": "PENDING", "running": "RUNNING", "ended": "SUCCEEDED"}[view.partition(" ")[0]]
        return f"#/job/{site.jobs(state)[0]['id']}"
    names = {"model": "models/resnet-50", "task": "tasks/embed", "task of a model": "tasks/model%3Aresnet-50.v2"}
    return f"#/{names.get(view, view)}"


LANDMARKS = {
    "pools": "section.nodes .virtual-body .row .health",
    "timeline": ".timeline-plot canvas",
    "queue": ".virtual-body .row .state",
    "waiting job": "#why",
    "running job": "#used",
    "ended job": "#ways",
    "tasks": ".virtual-body .row a",
    "task": "#ways",
    "task of a model": ".chart-box canvas",
    "models": "tbody tr:nth-child(2)",
    "model": ".guard.satisfied",
    "policy": "pre.document",
    "usage": "tbody tr",
}
"""What stands in a view once its data is there."""


def shown(opened: OPENER, site: Site, view: str, **how: Any) -> Any:
    page = opened(address_of(site, view), **how)
    page.wait_for_selector(LANDMARKS[view])
    return page


@contextmanager
def answers(page: Any, path: str) -> Iterator[Any]:
    with page.expect_response(lambda response: path in response.url) as found:
        yield found


# ---- every view


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_its_data_and_nothing_goes_wrong(site: Site, opened: OPENER, witness: Witness, view: str) -> None:
    page = shown(opened, site, view)
    page.wait_for_selector(".live.live")
    assert witness.seen == []
    # Names of the made-up fabric are scripts and images: they are text, whatever shows them.
    assert page.locator("#page script, #page img, #page iframe, #page b b").count() == 0


def violations(page: Any) -> list[Any]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the package axe-playwright-python is not installed").Axe()
    found = axe.run(page).response["violations"]
    return [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_no_violation(site: Site, opened: OPENER, view: str, look: str) -> None:
    page = shown(opened, site, view, dark=look == "dark", size=PHONE if look == "phone" else WIDE)
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_violation_in_what_comes_and_goes(site: Site, opened: OPENER, dark: bool) -> None:
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


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fits_a_phone(site: Site, opened: OPENER, view: str) -> None:
    page = shown(opened, site, view, size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_names_that_are_markup_are_shown_as_they_are_written(site: Site, opened: OPENER, witness: Witness) -> None:
    page = shown(opened, site, "queue")
    for name in ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'):
        page.get_by_role("searchbox", name="Search jobs").fill(name[:12])
        page.wait_for_function("name => document.querySelector('.virtual-body a')?.textContent.startsWith(name)", arg=name)
    assert witness.seen == []


def test_a_panel_that_the_fabric_does_not_have_is_not_there(site: Site, opened: OPENER) -> None:
    page = opened(scope="read")
    overview = site.ask("/v1/console/overview")
    overview["panels"] = ["pools", "queue"]
    page.route("**/v1/console/overview", lambda route: route.fulfill(json=overview))
    page.route("**/v1/console/events", lambda route: route.abort())
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('nav a').length === 2")
    page.evaluate("location.hash = '#/models'")
    page.get_by_text("There is nothing here").wait_for()


# ---- who may


def test_without_a_good_token_there_is_a_field_for_one_and_nothing_else(site: Site, opened: OPENER, witness: Witness) -> None:
    page = opened(token="tf_000000000000_nothing")
    page.get_by_text("This token opens nothing here").wait_for()
    assert "token" not in page.url
    assert page.locator("nav, .virtual, .figures").count() == 0
    page.get_by_label("Token").fill(site.world.tokens["read"])
    page.get_by_role("button", name="Open").click()
    page.wait_for_selector("section.nodes .virtual-body .row .health")
    assert all("401" in each for each in witness.seen)


def test_a_token_that_only_asks_models_is_told_that_it_sees_nothing_here(site: Site, opened: OPENER) -> None:
    token, _ = Tokens(site.world.journal).mint("ann", ("infer",))
    page = opened(token=token)
    page.wait_for_selector(".door .problem")
    assert page.locator("nav, .virtual, .figures").count() == 0


def test_a_token_that_is_revoked_closes_the_page(site: Site, opened: OPENER) -> None:
    tokens = Tokens(site.world.journal)
    token, record = tokens.mint("ann", ("read",), by="ann")
    page = opened(token=token)
    page.wait_for_selector(".live.live")
    tokens.revoke(record.id)
    page.wait_for_selector(".door .problem")
    assert page.locator("nav, .virtual, .figures").count() == 0


def test_the_token_leaves_the_address_and_is_sent_in_a_header_alone(site: Site, opened: OPENER) -> None:
    page = opened("#/queue")
    page.wait_for_selector(LANDMARKS["queue"])
    assert page.evaluate("[location.hash.includes('token'), document.cookie, localStorage.length]") == [False, "", 0]


def test_who_may_only_read_gets_no_orders(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "pools", scope="read")
    page.wait_for_selector("button[aria-label^=Cordon]:disabled", state="attached")
    assert page.locator("button[aria-label^=Drain]:enabled").count() == 0


# ---- orders


def job_of_ann(site: Site) -> Any:
    return next(job for job in site.jobs("PENDING", 400) if job["user"] == "ann")


def test_a_job_is_cancelled_by_the_keyboard_alone(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "queue")
    job = job_of_ann(site)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Search jobs":
            break
    page.keyboard.type(job["id"])
    page.wait_for_function("() => document.querySelector('.virtual').getAttribute('aria-rowcount') === '2'")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "grid":
            break
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_function("id => location.hash === `#/job/${id}`", arg=job["id"])
    page.wait_for_selector("#why")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Cancel":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".job-head .state.cancelled")
    assert site.ask(f"/v1/jobs/{job['id']}")["state"] == "CANCELLED"


def test_arrow_keys_go_through_ten_thousand_rows_without_losing_the_current_one(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "queue")
    page.locator(".virtual").focus()
    page.keyboard.press("End")
    page.wait_for_function(
        "() => { const grid = document.querySelector('.virtual'), row = document.getElementById(grid.ariaActiveDescendantElement?.id);"
        " return row?.ariaRowIndex === grid.ariaRowCount && row.querySelector('.state') }"
    )
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('.virtual .current')?.getAttribute('aria-rowindex') === '2'")


def test_two_pages_cancel_the_same_job_and_both_are_told_that_it_is(site: Site, opened: OPENER, witness: Witness) -> None:
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


def test_an_order_is_sent_once_however_often_it_is_pressed(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "model")
    site.api.orders.clear()
    with answers(page, "/pause"):
        page.get_by_role("button", name="Pause").evaluate("button => { button.click(); button.click(); button.click() }")
    page.get_by_role("button", name="Resume").wait_for()
    assert [path for path, _ in site.api.orders] == ["/v1/rollouts/resnet-50/pause"]
    with answers(page, "/resume"):
        page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Pause").wait_for()


def test_leaving_the_question_sends_nothing(site: Site, opened: OPENER) -> None:
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


def test_a_node_is_drained_with_a_deadline(site: Site, opened: OPENER) -> None:
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


def test_what_the_fabric_refuses_is_told_in_its_words(site: Site, opened: OPENER) -> None:
    page = opened(f"#/job/{job_of_ann(site)['id']}")
    page.get_by_role("button", name="Priority of").click()
    page.get_by_label("Priority class").fill("hihg")
    page.get_by_role("button", name="Change it").click()
    page.get_by_text("did you mean high?").wait_for()


def test_a_raised_job_is_told_so_and_the_classes_are_offered(site: Site, opened: OPENER) -> None:
    page = opened(f"#/job/{job_of_ann(site)['id']}")
    site.api.orders.clear()
    page.get_by_role("button", name="Priority of").click()
    page.get_by_text("The policy has: high, low").wait_for()
    page.get_by_label("Priority class").fill("high")
    page.get_by_role("button", name="Change it").click()
    page.get_by_text("is now of class high").wait_for()
    assert site.api.orders[-1][1] == {"priority": "high"}


def test_a_policy_is_tried_and_both_sides_are_shown(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "policy")
    page.get_by_role("button", name="Begin with the one in force").click()
    page.get_by_role("button", name="Replay").click()
    page.get_by_role("rowheader", name="utilisation").wait_for()
    assert "better" in page.locator("table").inner_text()
    assert site.api.orders[-1][1]["since"] == "24h"
    assert "priorityClasses" in site.api.orders[-1][1]["document"]


def test_usage_is_saved_as_a_file(site: Site, opened: OPENER, tmp_path: Path) -> None:
    page = shown(opened, site, "usage")
    with page.expect_download() as found:
        page.get_by_role("button", name="CSV").click()
    assert found.value.suggested_filename == "usage-by-user.csv"
    found.value.save_as(tmp_path / "usage.csv")
    assert (tmp_path / "usage.csv").read_text().startswith("name,cost_usd")


# ---- time, and bad luck


def test_a_fact_in_the_journal_reaches_the_page_by_itself(site: Site, opened: OPENER) -> None:
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


def test_a_browser_whose_clock_is_five_hours_wrong_shows_right_ages(site: Site, opened: OPENER) -> None:
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


def test_a_fabric_that_is_gone_is_told_and_the_page_comes_back_by_itself(site: Site, opened: OPENER) -> None:
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


# ---- the timeline


LAST_ASKED = "performance.getEntriesByType('resource').findLast((each) => each.name.includes('/v1/console/timeline')).name"


def window_of(page: Any) -> list[float]:
    query = page.evaluate(LAST_ASKED)
    return [float(re.search(rf"{key}=([\d.]+)", query)[1]) for key in ("from_s", "to_s")]  # type: ignore[index]


def test_the_timeline_zooms_where_the_pointer_is_and_moves_with_it(site: Site, opened: OPENER) -> None:
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


def test_the_timeline_is_moved_by_keys_and_read_as_a_table(site: Site, opened: OPENER) -> None:
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


def test_a_click_on_a_bar_opens_its_job(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "timeline")
    box = page.locator(".timeline-plot .u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 6, box["y"] + 6)  # what runs now on the first lane
    page.wait_for_selector(".tip")
    page.mouse.click(box["x"] + box["width"] - 6, box["y"] + 6)
    page.wait_for_function("() => location.hash.startsWith('#/job/')")


# ---- a job


def test_a_job_says_why_it_waits_who_is_ahead_and_when_it_starts(site: Site, opened: OPENER) -> None:
    job = site.jobs("PENDING", 40)[-1]
    page = opened(f"#/job/{job['id']}")
    page.get_by_role("heading", name=re.compile(r"\d+ jobs? ahead of it")).wait_for()
    text = page.locator("section", has=page.locator("#why")).inner_text()
    assert "others go first" in text
    assert re.search(r"between \d+\w+ and \d+\w+ from now", text)
    assert page.get_by_role("table", name="Ways to run this job").locator("tbody tr").count() == 3


def test_a_job_that_has_ended_has_predictions_and_measurements_side_by_side(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "ended job")
    assert page.locator("#ways").inner_text() == "Where it could have run"
    ways = page.get_by_role("table", name="Ways to run this job")
    assert ways.locator("th[scope=col]").all_inner_texts() == ["tier", "on", "run", "cost", "family took", "verdict"]


# ---- tasks


def test_a_task_is_found_opened_and_shows_what_was_measured_beside_the_prediction(site: Site, opened: OPENER) -> None:
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


def test_a_served_models_task_has_a_roofline_with_its_figures_as_a_table(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "task of a model")
    rows = page.get_by_role("table", name="Figures of the roofline of model:resnet-50.v2").locator("tbody tr")
    found = [rows.nth(number).locator("th, td").all_inner_texts() for number in range(rows.count())]
    assert {cells[1]: cells[-1] for cells in found} == {"a100-80g": "predicted", "t4": "measured", "cpu ×4": "measured"}


def test_tasks_are_no_panel_for_a_token_that_may_not_read(site: Site, opened: OPENER) -> None:
    page = opened("#/tasks", scope="submit")
    page.get_by_text("There is nothing here").wait_for()
    assert page.get_by_role("link", name="Tasks").count() == 0


def test_a_task_that_nobody_knows_says_so(site: Site, opened: OPENER) -> None:
    opened("#/tasks/nobody").get_by_text("There is no such task").wait_for()


def test_output_is_followed_to_its_end(site: Site, opened: OPENER) -> None:
    page = shown(opened, site, "running job")
    page.wait_for_function("() => document.querySelector('.log').textContent.includes('step  6000')")
    page.get_by_text("complete").wait_for()
    assert quote("<img") not in page.locator(".log").inner_text()
    assert "<img src=x onerror=alert(1)>" in page.locator(".log").inner_text()
