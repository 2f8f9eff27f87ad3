"""The declarations, their page, and the command that lists them say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.metrics.declared import DECLARED
from fabric.metrics.form import page_rows

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
UNITS = ("seconds", "bytes", "ratio", "usd", "usd_per_hour", "units")


def test_the_page_has_a_row_for_every_metric_and_no_other() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == page_rows()


def test_names_are_prometheus_names_of_this_product() -> None:
    for name, metric in DECLARED.items():
        assert metric.name == name and re.fullmatch(r"fabric(_[a-z]+)+", name), name
        assert not name.endswith("_total"), "Ray adds it to counters"


def test_what_has_a_unit_carries_it() -> None:
    for metric in DECLARED.values():
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds") and list(metric.bounds) == sorted(metric.bounds) and metric.bounds[0] > 0
        else:
            assert not metric.bounds
        if "cost" in metric.name or "budget" in metric.name:
            assert metric.name.rpartition("_")[2] == "usd"


def test_labels_are_few_and_no_ids() -> None:
    allowed = {
        "tier",
        "flavor",
        "health",
        "queue",
        "user",
        "state",
        "selector",
        "reason",
        "outcome",
        "model",
        "version",
        "guard",
        "verdict",
    }
    for metric in DECLARED.values():
        assert set(metric.labels) <= allowed and len(metric.labels) <= 4, metric.name


@pytest.mark.parametrize("kind", ["gauge", "counter", "histogram"])
def test_there_are_metrics_of_every_kind(kind: str) -> None:
    assert any(metric.kind == kind for metric in DECLARED.values())


def test_the_command_lists_all_of_them_under_the_names_that_prometheus_has() -> None:
    answer = CliRunner().invoke(cli, ["metrics", "list", "-o", "json"])
    listed = {one["name"]: one for one in json.loads(answer.output)["metrics"]}
    assert set(listed) == {metric.exported for metric in DECLARED.values()}
    assert listed["ray_fabric_jobs_submitted_total"]["labels"] == ["queue", "user"]
    assert listed["ray_fabric_job_wait_seconds"]["buckets"][0] == 1.0
    table = CliRunner().invoke(cli, ["metrics", "list"], terminal_width=160).output
    assert "ray_fabric_pool_nodes" in table and "Nodes, by health" in table
