"""`fabric metrics`: list, export-dashboard. Both look at declarations only; no fabric needs to run."""

from __future__ import annotations

from pathlib import Path

import click

from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import emit, load, output_option

COMMANDS = {
    "list": ("fabric.cli.metrics:list_", "Every metric of the fabric: name, type, labels, meaning."),
    "export-dashboard": ("fabric.cli.metrics:export_dashboard", "Write a Grafana dashboard and a Prometheus configuration."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def metrics() -> None:
    """What the fabric tells Prometheus through Ray's metrics agents, and a dashboard of it."""


@click.command(cls=FabricCommand, name="list")
@output_option
def list_(output: str) -> None:
    """Every metric, by the name that Prometheus has it under."""
    from fabric.metrics.form import format_metrics, metrics_json

    document = metrics_json()
    emit(document, output, lambda: format_metrics(document))


@click.command(cls=FabricCommand, name="export-dashboard")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), metavar="DIR", help="Where to write (default: here)."
)
@output_option
@click.pass_obj
def export_dashboard(settings: Settings, out: Path, output: str) -> None:
    """Write tierfabric-dashboard.json, which Grafana imports as it is, and prometheus.yml, for a Prometheus on the head.

    Files of these names are replaced.
    """
    from fabric.metrics.grafana import dashboard_json
    from fabric.metrics.scrape import scrape_yaml

    serving = load(settings).config.serving
    out.mkdir(parents=True, exist_ok=True)
    files = {
        out / "tierfabric-dashboard.json": dashboard_json(),
        out / "prometheus.yml": scrape_yaml(f"{serving.host}:{serving.port}"),
    }
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    document = {"files": [str(file) for file in files]}
    emit(document, output, lambda: "\n".join(f"written: {file}" for file in files))
