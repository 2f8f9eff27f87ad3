"""The console's page over a twin that really runs jobs: they appear, write, end and are cancelled before the reader's eyes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.console.chromium import CHROMIUM
from tests.console_browser import WIDE, Witness

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is not installed"), pytest.mark.timeout(420)]

FABRIC = (sys.executable, "-m", "fabric.cli.main")
SHOWN_MS = 60_000
POLICY = """apiVersion: scheduling.example.com/v1
kind: HybridPolicy
metadata:
  name: two-classes
spec:
  priorityClasses:
    - name: urgent
      weight: 3
    - name: usual
      weight: 1
"""
EVIL = "<img src=x onerror=alert(1)>"
Cli = Callable[..., str]


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """`fabric("submit", …)` -> what the command wrote; a twin of its own."""
    state = tmp_path_factory.mktemp("state")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIC_", "RAY_"))}
    env |= {"FABRIC_STATE_DIR": str(state), "FABRIC_DASHBOARD__ENABLED": "false"}

    def run(*args: str, cwd: Path = state) -> str:
        done = subprocess.run([*FABRIC, *args], capture_output=True, text=True, timeout=200, check=False, env=env, cwd=cwd)
        assert done.returncode == 0, f"fabric {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("up")
    yield run
    run("down")


@pytest.fixture
def page(fabric: Cli, browser: Any, witness: Witness) -> Iterator[Any]:
    """Opened as `fabric console` says."""
    address = json.loads(fabric("console", "-o", "json", "--no-open"))["address"]
    context = browser.new_context(viewport=WIDE, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(SHOWN_MS)
    witness.watch(page, address.partition("#")[0])
    page.goto(address)
    page.wait_for_selector(".live.live")
    yield page
    context.close()


def go(page: Any, address: str, landmark: str) -> None:
    page.evaluate("hash => { location.hash = hash }", address)
    page.wait_for_selector(landmark)


def submitted(fabric: Cli, folder: Path, code: str, name: str) -> str:
    (folder / "work.py").write_text(code)
    ids = json.loads(fabric("submit", "--name", name, "-o", "json", "python", "work.py", cwd=folder))["ids"]
    return str(ids[0][0] if isinstance(ids[0], list) else ids[0])


def test_a_job_appears_writes_and_succeeds_without_a_reload(fabric: Cli, page: Any, witness: Witness, tmp_path: Path) -> None:
    go(page, "#/queue", ".virtual")
    code = "import time\nfor step in range(12):\n    print('step', step, '<b>', flush=True)\n    time.sleep(0.5)\n"
    job = submitted(fabric, tmp_path, code, "teller")
    page.locator(".virtual-body .row", has_text="teller").locator(".state.running, .state.succeeded").first.wait_for()
    go(page, f"#/job/{job}", ".job-head")
    page.get_by_role("table", name="Predicted and measured").wait_for()
    page.wait_for_function("() => document.querySelector('.log')?.textContent.includes('step 11 <b>')")
    page.wait_for_selector(".job-head .state.succeeded")
    page.get_by_text("complete").wait_for()
    page.get_by_role("table", name="Predicted and measured").wait_for()  # of an ended job, too
    page.wait_for_selector("#used")
    page.get_by_role("button", name="As recorded").click()
    page.get_by_text("JobSubmitted", exact=True).wait_for()
    assert witness.seen == []


def test_a_running_job_is_cancelled_from_the_page(fabric: Cli, page: Any, witness: Witness, tmp_path: Path) -> None:
    job = submitted(fabric, tmp_path, "import time\ntime.sleep(600)\n", EVIL)
    go(page, f"#/job/{job}", ".job-head .state.running")
    assert page.locator(".job-head h1").inner_text() == EVIL
    page.get_by_role("button", name="Cancel this job").click()
    page.get_by_role("button", name="Cancel the job").click()
    page.wait_for_selector(".job-head .state.cancelled")
    assert "CANCELLED" in fabric("queue", "--all")
    assert witness.seen == []


def test_a_node_is_cordoned_and_comes_back(fabric: Cli, page: Any, witness: Witness) -> None:
    row = page.locator("section.nodes .virtual-body .row").last
    row.hover()
    row.get_by_role("button", name="Cordon").click()
    row.locator(".health.cordoned").wait_for()
    row.hover()
    row.get_by_role("button", name="Uncordon").click()
    row.locator(".health.ready").wait_for()
    assert witness.seen == []


@pytest.mark.parametrize(
    ("address", "landmark"),
    [
        ("#/timeline", ".timeline-plot canvas"),
        ("#/models", ".empty, tbody tr"),
        ("#/policy", "#document"),
        ("#/usage", "tbody tr"),
    ],
)
def test_what_the_real_api_answers_is_shown(page: Any, witness: Witness, address: str, landmark: str) -> None:
    go(page, address, landmark)
    page.wait_for_timeout(500)
    assert page.locator(".problem").count() == 0
    assert witness.seen == []


def test_another_policy_is_tried_on_the_jobs_that_ran(fabric: Cli, page: Any, witness: Witness, tmp_path: Path) -> None:
    job = submitted(fabric, tmp_path, "print('done')\n", "replayed")
    go(page, f"#/job/{job}", ".job-head .state.succeeded")
    go(page, "#/policy", "#whatif")
    page.get_by_label("Another policy").fill(POLICY)
    page.get_by_role("button", name="Replay").click()
    page.get_by_role("rowheader", name="mean completion time").wait_for()
    assert "replayed under both" in page.locator(".whatif-columns").inner_text()
    page.get_by_label("Another policy").fill("spec: [")
    page.get_by_role("button", name="Replay").click()
    page.locator(".problem").get_by_text("cannot be shown").wait_for()
    assert [each for each in witness.seen if "400" not in each] == []  # the browser logs what was refused


def test_usage_is_exported_for_each_view(page: Any, witness: Witness, tmp_path: Path) -> None:
    go(page, "#/usage", "tbody tr")
    for by, format_name in (("User", "CSV"), ("Queue", "Parquet"), ("Model", "CSV")):
        page.get_by_role("button", name=by, exact=True).click()
        with page.expect_download() as found:
            page.get_by_role("button", name=format_name).click()
        found.value.save_as(tmp_path / found.value.suggested_filename)
    kept = {file.name: file.read_bytes()[:4] for file in tmp_path.iterdir()}
    assert kept["usage-by-queue.parquet"] == b"PAR1"
    assert kept["usage-by-user.csv"] == kept["usage-by-model.csv"] == b"name"
    assert witness.seen == []
