"""`fabric model deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import joined, load, ray_bound


@click.command(cls=FabricCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What clients call it (default: the file's name).")
@click.option("--tier", metavar="TIER", help="Where it runs (default: where it is answered best for the money).")
@click.option("--replicas", type=click.IntRange(1), metavar="N", help="To start with (default: 1, or --min).")
@click.option("--min", "least", type=click.IntRange(0), metavar="N", help="Scale down to so many; 0: none while nobody asks.")
@click.option("--max", "most", type=click.IntRange(1), metavar="N", help="Scale up to so many.")
@click.option("--metric", metavar="METRIC", help="What to scale by: cpu_utilization (default), ongoing_requests, latency_p95, …")
@click.option("--target", type=float, metavar="X", help="Its target: percent, requests or ms.")
@click.option("--idle", "idle_s", type=float, metavar="SECONDS", help="With --min 0: unasked for so long, the last replica ends.")
@click.option("--cpus", "num_cpus", type=float, metavar="N", help="Of one replica.")
@click.option("--max-batch-size", type=click.IntRange(1), metavar="N", help="Rows that one call of the model may take together.")
@click.option("--latency-budget", "latency_budget_ms", type=float, metavar="MS", help="What batching may make of the 99th percentile.")
@click.option("--max-queued", type=click.IntRange(0), metavar="N", help="Requests that wait per replica; more are told to come back.")
@click.option("--latency-target", "latency_target_ms", type=float, metavar="MS", help="Run where this is met at least cost.")
@click.option("--address", metavar="HOST:PORT", help="The fabric (default: FABRIC_ADDRESS, else the twin that runs here).")
@click.pass_obj
def deploy(
    settings: Settings,
    /,
    file: Path,
    address: str | None,
    least: int | None,
    most: int | None,
    metric: str | None,
    target: float | None,
    idle_s: float | None,
    **given: Any,
) -> None:
    """Serve a model file, or a registered version (resnet:3, resnet:champion).

    Files: ONNX, TorchScript, torch.export, SavedModel, TensorFlow Lite, MindSpore, scikit-learn.

    Deploying a name again makes its next version; the one before answers until the new one does.
    """
    with joined(load(settings).config, address):
        models = ray_bound("serve_apps.model_file")
        scale = models.autoscale_of(least=least, most=most, metric=metric, target=target, idle_s=idle_s)
        live = models.deploy_file(file, say=lambda line: click.echo(line, err=True), autoscale=scale, **given)
        click.echo(f"{live.rest}/v2/models/{live.name}/infer")
