"""Draws the described panels as a Grafana dashboard (10.1 and later), with Grafana's own builders.

Invariants: nothing needs editing before the import: the datasource is a variable; the same description gives the same bytes.
"""

from __future__ import annotations

import json

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig, VizLegendOptions
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh, VariableSort

from fabric.metrics import declared
from fabric.metrics.metric import Metric
from fabric.metrics.panels import ROWS, Panel, Row
from fabric.metrics.promql import SESSION

UID = "tierfabric"
TITLE = "Tier fabric"
HEIGHT = 7
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_VARIABLES: tuple[tuple[str, str, str, Metric], ...] = (
    ("session", "cluster", SESSION, declared.POOL_NODES),
    ("tier", "tier", "tier", declared.POOL_NODES),
    ("queue", "queue", "queue", declared.QUEUE_JOBS),
    ("model", "model", "model", declared.MODEL_REPLICAS),
)
"""Name, what is written before it, the label whose values it takes, and of which metric."""


def dashboard_json() -> str:
    """The dashboard as Grafana imports it."""
    board = dash.Dashboard(TITLE).uid(UID).tags(["ray", "tierfabric"]).refresh("30s").time("now-3h", "now").timezone("browser").editable()
    board.description("Tiers, queues, scheduler, tasks, serving and rollouts of a tier fabric on Ray.")
    board.with_variable(dash.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    for name, label, of_label, metric in _VARIABLES:
        board.with_variable(_variable(name, label, f"label_values({metric.exported}, {of_label})"))
    for row in ROWS:
        board.with_row(_row(row))
        for panel in row.panels:
            board.with_panel(_drawn(panel))
    document = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    for number, drawn in enumerate(document["panels"], start=1):
        drawn["id"] = number
    return json.dumps({"id": None, **document}, indent=2, sort_keys=True) + "\n"


def _variable(name: str, label: str, query: str) -> dash.QueryVariable:
    every = VariableOption(selected=True, text=["All"], value=["$__all"])
    made = (
        dash.QueryVariable(name).label(label).datasource(_SOURCE).query(query).multi(True).include_all(True).all_value(".*").current(every)
    )
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def _row(row: Row) -> dash.Row:
    drawn = dash.Row(row.title)
    return drawn.repeat(row.repeated) if row.repeated else drawn


def _drawn(panel: Panel) -> stat.Panel | timeseries.Panel:
    drawn = _number() if panel.is_number else _lines(panel)
    drawn.title(panel.title).description(panel.help).unit(panel.unit).datasource(_SOURCE).height(HEIGHT).span(panel.width).min(0)
    for index, query in enumerate(panel.queries):
        drawn.with_target(Dataquery().expr(query.text).legend_format(query.legend).ref_id(chr(ord("A") + index)).datasource(_SOURCE))
    return drawn


def _number() -> stat.Panel:
    return stat.Panel().no_value("0").reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))


def _lines(panel: Panel) -> timeseries.Panel:
    legend = (
        VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    drawn = timeseries.Panel().legend(legend).fill_opacity(20 if panel.is_stacked else 0).line_width(1)
    return drawn.stacking(StackingConfig().mode(StackingMode.NORMAL)) if panel.is_stacked else drawn
