"""`fabric simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand
from fabric.cli.session import emit, output_option

if TYPE_CHECKING:
    from fabric.policy import Policy
    from fabric.sim.cluster import Cluster
    from fabric.sim.trace import TraceJob

_FILE = click.Path(path_type=Path)


@click.command(cls=FabricCommand)
@click.argument("trace", type=_FILE)
@click.option("--throughputs", type=_FILE, metavar="FILE", help="Gavel's table of steps per second; needed for its traces.")
@click.option("--cluster", "cluster_text", default="v100=8,p100=16,k80=24", show_default=True, metavar="FLAVOR=N,…", help="Accelerators.")
@click.option("--gpus-per-node", type=click.IntRange(min=1), default=1, show_default=True, help="Accelerators on each node.")
@click.option("--prices", metavar="FLAVOR=USD,…", help="Per accelerator and hour (default: the catalogue's).")
@click.option(
    "--restart-s", type=click.FloatRange(min=0), help="Seconds without work after every start and move (default: the policy's, 60)."
)
@click.option("--objective", type=click.Choice(["balanced", "jct", "makespan", "cost"]), help="Over the policy's (balanced).")
@click.option("--policy", "policy_file", type=_FILE, metavar="FILE", help="A policy document.")
@click.option(
    "--steps",
    type=click.Choice(["known", "estimated", "unknown"]),
    default="known",
    show_default=True,
    help="What is known of the work.",
)
@click.option("--failures", metavar="mtbf_h=N,repair_s=N", help="Nodes fail so often and are away so long; checkpoint_s=1800 may follow.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of failures and estimates.")
@click.option("--events", type=_FILE, metavar="FILE", help="Write every lease there, one JSON object a line.")
@click.option("--bounds/--no-bounds", "has_bounds", default=None, help="Compute lower bounds (default: up to 1,000 jobs).")
@output_option
def simulate(
    trace: Path,
    throughputs: Path | None,
    cluster_text: str,
    gpus_per_node: int,
    prices: str | None,
    restart_s: float | None,
    objective: str | None,
    policy_file: Path | None,
    steps: Any,
    failures: str | None,
    seed: int,
    events: Path | None,
    has_bounds: bool | None,
    output: str,
) -> None:
    """Run a TRACE of jobs through the scheduler on virtual time, and print what came of it beside what no schedule can beat.

    TRACE is one of Gavel's (tab separated, with --throughputs) or CSV with a header: name, arrival_s, gpus and, for each flavor,
    <flavor>_s (or <flavor>_rate and work); optionally queue, user, class, family, deadline_s, shape.
    """
    from fabric.sim.cluster import make_cluster, parse_capacity, parse_prices
    from fabric.sim.events import write_leases
    from fabric.sim.failures import parse_failures
    from fabric.sim.report import MOST_BOUNDED, format_report, report_of
    from fabric.sim.scenario import Scenario
    from fabric.sim.scenario import simulate as run

    capacity = parse_capacity(cluster_text)
    cluster = make_cluster(capacity, gpus_per_node=gpus_per_node, usd_per_h=parse_prices(prices) if prices else None)
    jobs = _jobs(trace, throughputs, list(capacity))
    policy = _policy(policy_file, cluster, objective, restart_s)
    scenario = Scenario(jobs, cluster, policy, steps, parse_failures(failures) if failures else None, seed)
    outcome = run(scenario, _Progress(len(jobs)))
    if events is not None:
        write_leases(events, outcome.leases)
    document = report_of(scenario, outcome, has_bounds=len(jobs) <= MOST_BOUNDED if has_bounds is None else has_bounds)
    emit(document, output, lambda: format_report(document))


def _jobs(trace: Path, throughputs: Path | None, devices: list[str]) -> list[TraceJob]:
    from fabric.errors import ConfigError
    from fabric.sim.csv_trace import read_csv
    from fabric.sim.gavel import is_gavel, read_gavel
    from fabric.text_file import read_text
    from fabric.throughputs import read_throughputs

    text = read_text(trace, "trace")
    if not is_gavel(text):
        return read_csv(trace, text, devices)
    if throughputs is None:
        raise ConfigError("a Gavel trace needs --throughputs", code="no_throughputs", hint="e.g. --throughputs simulation_throughputs.json")
    return read_gavel(trace, text, read_throughputs(throughputs, devices), devices)


def _policy(path: Path | None, cluster: Cluster, objective: Any, restart_s: float | None) -> Policy:
    from dataclasses import replace

    from fabric.policy import Policy
    from fabric.policy_document import read_policy
    from fabric.text_file import read_text

    policy = Policy() if path is None else read_policy(read_text(path, "policy"), catalogue=cluster.catalogue)
    if objective is not None:
        policy = replace(policy, objective=objective)
    return policy if restart_s is None else replace(policy, restart_s=restart_s)


class _Progress:
    """A line on stderr every few seconds of a long run."""

    EVERY_S = 5.0

    def __init__(self, num_jobs: int) -> None:
        from time import monotonic

        self._clock, self._num_jobs = monotonic, num_jobs
        self._next_s = monotonic() + self.EVERY_S

    def __call__(self, now_s: float, num_left: int) -> None:
        if self._clock() < self._next_s:
            return
        from fabric.show import duration

        self._next_s = self._clock() + self.EVERY_S
        click.echo(f"simulated {duration(now_s)}: {self._num_jobs - num_left} of {self._num_jobs} jobs have ended", err=True)
