"""The dashboard and the scrape file: what Grafana's import and Prometheus need, and only names that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.metrics.declared import DECLARED
from fabric.metrics.grafana import dashboard_json
from fabric.metrics.panels import ROWS
from fabric.metrics.promql import VARIABLES

RAYS_OWN = {"ray_node_cpu_utilization", "ray_tasks"}
"""The cluster test sees that Ray has them."""
BOARD: dict[str, Any] = json.loads(dashboard_json())
DRAWN = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [query.text for row in ROWS for panel in row.panels for query in panel.queries]


def parsed(query: str) -> promql_parser.Expr:
    """With Grafana's variables filled in as Grafana does."""
    return promql_parser.parse(re.sub(r"\$__(rate_interval|range)", "5m", query))


def selectors(query: str) -> Iterator[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []
    promql_parser.walk(parsed(query), lambda node: found.append(node) if isinstance(node, promql_parser.VectorSelector) else None)
    yield from found


def names_in(query: str) -> set[str]:
    return set(re.findall(r"\bray_[a-z0-9_]+", query))


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_promql_over_metrics_that_are_there(query: str) -> None:
    parsed(query)
    exported = {metric.exported for metric in DECLARED.values()}
    buckets = {f"{metric.exported}_bucket" for metric in DECLARED.values() if metric.kind == "histogram"}
    assert names_in(query) and names_in(query) <= exported | buckets | RAYS_OWN


def test_a_query_that_is_no_promql_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed("sum by (tier (ray_fabric_pool_nodes)")


def test_every_query_groups_by_labels_that_its_metrics_have() -> None:
    labels = {metric.exported: set(metric.labels) for metric in DECLARED.values()}
    for query in QUERIES:
        known = {"SessionName", "le", "instance", "State"}.union(
            *(labels.get(name.removesuffix("_bucket"), set()) for name in names_in(query))
        )
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert {label.strip() for label in group.split(",")} <= known, query


def test_every_legend_names_labels_that_its_query_keeps() -> None:
    for row in ROWS:
        for panel in row.panels:
            for query in panel.queries:
                kept = query.text[: query.text.index("ray_")]
                assert all(label in kept for label in re.findall(r"\{\{(\w+)\}\}", query.legend)), (panel.title, query)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name.removesuffix("_bucket") for query in QUERIES for name in names_in(query)}
    assert {metric.exported for metric in DECLARED.values()} - shown == set()


def test_there_is_a_row_for_each_room_and_tiers_have_one_each() -> None:
    titles = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert titles == ["Overview", "Tier $tier", "Queues and users", "Scheduler", "Tasks", "Serving", "Rollouts"]
    assert next(panel for panel in BOARD["panels"] if panel["title"] == "Tier $tier")["repeat"] == "tier"


def test_the_dashboard_has_what_an_import_needs_and_nothing_of_one_grafana() -> None:
    assert BOARD["id"] is None and BOARD["uid"] == "tierfabric" and BOARD["title"] and BOARD["schemaVersion"] >= 36
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) and all(ids)
    for panel in DRAWN:
        assert panel["type"] in ("timeseries", "stat") and panel["title"] and panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        assert all(target["expr"] and target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_panels_lie_beside_each_other_on_a_grid_of_24() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_the_datasource_and_what_is_filtered_by_are_variables() -> None:
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    assert set(variables) == {"datasource", "session", *VARIABLES}
    used = {name for query in QUERIES for name in re.findall(r"\$(?!__)(\w+)", query)}
    assert used == {"session", *VARIABLES}
    for name in used:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables[name]["query"]).groups()  # type: ignore[union-attr]
        assert label == "SessionName" or label in next(one.labels for one in DECLARED.values() if one.exported == metric)


def test_a_variable_filters_every_metric_that_has_its_label() -> None:
    labels = {metric.exported: set(metric.labels) for metric in DECLARED.values()}
    for query in QUERIES:
        for selector in selectors(query):
            filtered = {matcher.name for matcher in selector.matchers.matchers}
            assert {"SessionName", *(labels.get(str(selector.name).removesuffix("_bucket"), set()) & set(VARIABLES))} <= filtered, query


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    config = tmp_path / "fabric.yaml"
    config.write_text("serving: {port: 9001}\n", encoding="utf-8")
    out = tmp_path / "new" / "monitoring"
    answer = CliRunner().invoke(cli, ["metrics", "export-dashboard", "--out", str(out), "--config", str(config), "-o", "json"])
    assert json.loads(answer.output) == {"files": [str(out / "tierfabric-dashboard.json"), str(out / "prometheus.yml")]}
    assert (out / "tierfabric-dashboard.json").read_text(encoding="utf-8") == dashboard_json()
    scrape = yaml.safe_load((out / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in scrape["scrape_configs"]}
    assert jobs["ray"]["file_sd_configs"][0]["files"] == ["/tmp/ray/prom_metrics_service_discovery.json"]
    assert jobs["fabric-serving"]["static_configs"] == [{"targets": ["127.0.0.1:9001"]}]
