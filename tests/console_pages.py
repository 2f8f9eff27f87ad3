"""The console's views as a browser opens them: their addresses, and what stands in them once their data is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.console_browser import Site

SHOWN_MS = 15_000
VIEWS = (
    *("pools", "timeline", "queue", "waiting job", "running job", "ended job"),
    *("tasks", "task", "task of a model", "models", "model", "policy", "usage"),
)
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
Opener = Callable[..., Any]
"""See the fixture `opened`."""


def address_of(site: Site, view: str) -> str:
    if view.endswith(" job"):
        state = {"waiting": "PENDING", "running": "RUNNING", "ended": "SUCCEEDED"}[view.partition(" ")[0]]
        return f"#/job/{site.jobs(state)[0]['id']}"
    names = {"model": "models/resnet-50", "task": "tasks/embed", "task of a model": "tasks/model%3Aresnet-50.v2"}
    return f"#/{names.get(view, view)}"


def shown(opened: Opener, site: Site, view: str, **how: Any) -> Any:
    page = opened(address_of(site, view), **how)
    page.wait_for_selector(LANDMARKS[view])
    return page


@contextmanager
def answers(page: Any, path: str) -> Iterator[Any]:
    with page.expect_response(lambda response: path in response.url) as found:
        yield found


def violations(page: Any) -> list[Any]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the package axe-playwright-python is not installed").Axe()
    found = axe.run(page).response["violations"]
    return [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found]
