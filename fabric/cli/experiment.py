"""`fabric experiment`: start, status, stop. Over the API, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import emit, output_option

COMMANDS = {
    "start": ("fabric.cli.experiment:start", "Divide a model's traffic, and compare what users post back."),
    "status": ("fabric.cli.experiment:status", "Each arm's metric, and what is certain of it."),
    "stop": ("fabric.cli.experiment:stop", "Give everything to what answered before."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def experiment() -> None:
    """Versions of a model against one another, by what users do."""


@click.command(cls=FabricCommand)
@click.argument("name")
@click.option("--arms", required=True, metavar="ARM=PERCENT,…", help="Versions or aliases; they sum to 100.")
@click.option("--metric", required=True, metavar="NAME", help="As it is posted to /v2/models/NAME/feedback.")
@click.option("--lower-is-better", is_flag=True)
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True, max_open=True), help="How likely a winner is none (default: 0.05).")
@output_option
@click.pass_obj
def start(settings: Settings, name: str, arms: str, metric: str, lower_is_better: bool, alpha: float | None, output: str) -> None:
    """Divide the traffic of model NAME. Versions that do not run are started first."""
    from serve_apps.rollout.experiment import parse_arms

    weights = {arm.name: arm.percent for arm in parse_arms(arms)}
    body: dict[str, Any] = {"model": name, "arms": weights, "metric": metric, "is_higher_better": not lower_is_better}
    if alpha is not None:
        body["alpha"] = alpha
    _show(client(settings).api.post("/v1/experiments", body, can_repeat=False), output)


@click.command(cls=FabricCommand)
@click.argument("name", required=False)
@output_option
@click.pass_obj
def status(settings: Settings, name: str | None, output: str) -> None:
    """How the experiment of model NAME stands; without NAME, all of them."""
    api = client(settings).api
    if name is not None:
        _show(api.get(f"/v1/experiments/{name}"), output)
        return
    document = api.get("/v1/experiments")
    emit(
        document,
        output,
        lambda: "\n\n".join(map(_rendered, document["experiments"])) or "no experiment; `fabric experiment start` begins one",
    )


@click.command(cls=FabricCommand)
@click.argument("name")
@output_option
@click.pass_obj
def stop(settings: Settings, name: str, output: str) -> None:
    """End the experiment of model NAME: what answered before gets everything."""
    _show(client(settings).api.post(f"/v1/experiments/{name}/stop", {}, can_repeat=False), output)


def _show(answer: Mapping[str, Any], output: str) -> None:
    emit(answer, output, lambda: _rendered(answer))


def _rendered(answer: Mapping[str, Any]) -> str:
    from serve_apps.rollout.form import render_experiment

    return render_experiment(answer)
