"""The console's page over a large fabric, in headless Chromium: how soon it shows, how soon a fact is on it, its scrolling, its weight.

- `first_content_ms`: from the navigation, with nothing cached, until the pools stand there with their figures and the first nodes.
- `update_ms`: from the moment a fact is in the journal until the frame in which the queue's first row has changed.
- `scroll_fps`: frames a second while the queue is scrolled by a whole screen each second, through thousands of rows.
- `page_kb`: everything that the first view transfers, compressed, with its headers: files, data, and the stream of changes until then.

Server, pools' stand-in and browser share the machine; jobs come and go all the while. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.console.chromium import launched
from benchmarks.console.lively_pools import LivelyPools, live_an_hour
from benchmarks.console.whole_api import WholeApi
from benchmarks.console.world import World, make_world
from benchmarks.measure import median, report
from fabric.api.serve import ApiServer
from fabric.job import JobId
from fabric.job_events import JobCancelRequested, JobClosed

GOALS = {"first_content_ms": "<= 1000", "update_ms": "<= 1000", "scroll_fps": ">= 55", "page_kb": "<= 300"}
SIZE = {"width": 1440, "height": 900}
UNTIL_MS = 20_000
SCROLL_S = 4.0

SHOWN = "() => document.querySelector('.figures dd') && document.querySelector('.virtual-body .health')"
WHEN_SHOWN = f"""
const shown = {SHOWN};
const watch = new MutationObserver(() => {{
  if (!shown()) return;
  watch.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => (window.shownAt_ms = performance.now())));
}});
watch.observe(document, {{ childList: true, subtree: true }});
"""
WHEN_GONE = """
(id) => new Promise((resolve) => {
  const body = document.querySelector(".virtual-body");
  const isThere = () => document.querySelector(`.virtual-body a[href="#/job/${id}"]`);
  const watch = new MutationObserver(() => {
    if (isThere()) return;
    watch.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now())));
  });
  watch.observe(body, { childList: true, subtree: true, characterData: true, attributes: true });
  window.isWatching = true;
})
"""
SCROLL = """
(seconds) => new Promise((resolve) => {
  const box = document.querySelector(".virtual");
  const began = performance.now();
  let frames = 0;
  let last = began;
  const step = (now) => {
    frames += 1;
    box.scrollTop += (box.clientHeight * (now - last)) / 1000;
    last = now;
    if (now - began < seconds * 1000) requestAnimationFrame(step);
    else resolve((frames * 1000) / (now - began));
  };
  requestAnimationFrame(step);
})
"""


FRAMES = """
(seconds) => new Promise((resolve) => {
  const began = performance.now();
  let frames = 0;
  const step = (now) => {
    frames += 1;
    if (now - began < seconds * 1000) requestAnimationFrame(step);
    else resolve((frames * 1000) / (now - began));
  };
  requestAnimationFrame(step);
})
"""


class Traffic:
    """Bytes on the wire, with headers, as the browser counts them."""

    def __init__(self, context: Any, page: Any) -> None:
        self._whole: dict[str, float] = {}
        self._parts: dict[str, float] = {}
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", lambda event: self._whole.__setitem__(event["requestId"], event["encodedDataLength"]))
        session.on("Network.dataReceived", self._add)

    def _add(self, event: Any) -> None:
        key = event["requestId"]
        self._parts[key] = self._parts.get(key, 0.0) + event["encodedDataLength"]

    def kb(self) -> float:
        return sum((self._parts | self._whole).values()) / 1000.0


def first_content(browser: Any, url: str) -> tuple[float, float, float]:
    """(ms until the data stands there, ms until the first paint, kB)."""
    context = browser.new_context(viewport=SIZE)
    page = context.new_page()
    page.add_init_script(WHEN_SHOWN)
    traffic = Traffic(context, page)
    page.goto(url)
    page.wait_for_function("() => window.shownAt_ms", timeout=UNTIL_MS)
    page.wait_for_selector(".chart canvas", timeout=UNTIL_MS)
    shown_ms = page.evaluate("window.shownAt_ms")
    paint_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
    page.wait_for_timeout(300)
    kb = traffic.kb()
    context.close()
    return shown_ms, paint_ms, kb


def open_queue(context: Any, url: str, state: str) -> Any:
    page = context.new_page()
    page.goto(url)
    page.wait_for_function(SHOWN, timeout=UNTIL_MS)
    page.evaluate(f"location.hash = '#/queue?state={state}'")
    page.wait_for_selector(".virtual-body .state", timeout=UNTIL_MS)
    return page


def update_ms(page: Any, world: World) -> float:
    """Cancels the job that stands in the first row of those that wait."""
    job_id = JobId(page.locator(".virtual-body a").first.get_attribute("href").removeprefix("#/job/"))
    page.evaluate("() => { window.isWatching = false }")
    seen = page.evaluate_handle(f"id => {{ window.seen = ({WHEN_GONE})(id) }}", job_id)
    page.wait_for_function("() => window.isWatching")
    world.life.write(JobCancelRequested(job_id, "ann"), JobClosed(job_id, "CANCELLED", "Cancelled"))
    written_ms = time.time() * 1000.0
    at_ms: float = page.evaluate("window.seen")
    seen.dispose()
    return at_ms - written_ms


def timeline_fps(page: Any) -> float:
    """While a day of leases is dragged to and fro under the pointer."""
    box = page.locator(".timeline-plot .u-over").bounding_box()
    page.evaluate(f"() => {{ window.rate = ({FRAMES})({SCROLL_S}) }}")
    y, middle = box["y"] + 40, box["x"] + box["width"] / 2
    page.mouse.move(middle, y)
    page.mouse.down()
    until_s, step = time.monotonic() + SCROLL_S, 0
    while time.monotonic() < until_s:
        step += 1
        page.mouse.move(middle + 300 * (step % 60 - 30) / 30, y)
    page.mouse.up()
    rate: float = page.evaluate("window.rate")
    return rate


def measure(browser: Any, world: World, url: str, rounds: int) -> dict[str, Any]:
    first_content(browser, url)  # the browser's own first time
    firsts = [first_content(browser, url) for _ in range(rounds)]
    context = browser.new_context(viewport=SIZE)
    page = open_queue(context, url, "PENDING")
    updates = []
    for _ in range(4 * rounds):
        page.wait_for_timeout(700)
        updates.append(update_ms(page, world))
    page.close()
    page = open_queue(context, url, "PENDING")
    page.evaluate(SCROLL, 1.0)
    scrolls = [page.evaluate(SCROLL, SCROLL_S) for _ in range(rounds)]
    rows = page.evaluate("document.querySelector('.virtual').getAttribute('aria-rowcount')")
    page.evaluate("location.hash = '#/timeline'")
    page.wait_for_selector(".timeline-plot canvas", timeout=UNTIL_MS)
    page.get_by_role("button", name="24 h").click()
    page.wait_for_timeout(1_500)
    drags = [timeline_fps(page) for _ in range(rounds)]
    return {
        "first_content_ms": median([each[0] for each in firsts]),
        "update_ms": median(updates),
        "scroll_fps": median(scrolls),
        "page_kb": median([each[2] for each in firsts]),
        "timeline_fps": median(drags),
        "first_paint_ms": median([each[1] for each in firsts]),
        "worst_first_content_ms": max(each[0] for each in firsts),
        "worst_update_ms": max(updates),
        "worst_scroll_fps": min(scrolls),
        "rows": int(rows) - 1,
        "rounds": rounds,
        "browser": browser.version,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--leases", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=4.0, help="jobs a second that end, start and are submitted meanwhile")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        made: list[LivelyPools] = []
        world = make_world(
            Path(folder),
            jobs=args.jobs,
            nodes=args.nodes,
            leases=args.leases,
            make_api=WholeApi,
            make_pools=lambda history, seed: made.append(LivelyPools(history, seed)) or made[0],  # type: ignore[func-returns-value]
        )
        live_an_hour(world, made[0])
        world.console.follower.start()
        world.life.start(args.rate)
        server = ApiServer(world.console.app)
        url = f"{server.start()}/#token={world.tokens['operate']}"
        figures = measure(browser, world, url, args.rounds)
        world.console.follower.close()
    report(figures, GOALS, as_json=args.json)


if __name__ == "__main__":
    main()
