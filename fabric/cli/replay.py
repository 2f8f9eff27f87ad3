"""`fabric replay`."""

from __future__ import annotations

from pathlib import Path

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import emit, load, output_option


@click.command(cls=FabricCommand)
@click.option("--against", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The policy document to run it under.")
@click.option("--cluster", "cluster_text", metavar="FLAVOR=N,…", help="Units of each flavor (default: the most that jobs held at once).")
@click.option("--gpus-per-node", type=click.IntRange(min=1), default=8, show_default=True, help="Accelerators (vCPUs) on each node.")
@click.option("--since", default="7d", show_default=True, metavar="TIME", help="Jobs submitted in this time before the newest one.")
@click.option("--events", type=click.Path(path_type=Path), metavar="FILE", help="Write every lease there, one JSON object a line.")
@output_option
@click.pass_obj
def replay(
    settings: Settings, against: Path, cluster_text: str | None, gpus_per_node: int, since: str, events: Path | None, output: str
) -> None:
    """Run what this fabric's journal recorded again on virtual time, under another policy or on other machines.

    Jobs that succeeded, each as long as it was measured to take; on flavors where its kind of job has never run, it does not run.
    """
    from fabric.durations import parse_duration
    from fabric.policy_document import read_policy
    from fabric.sim.cluster import make_cluster, parse_capacity
    from fabric.sim.events import write_leases
    from fabric.sim.replay import recorded
    from fabric.sim.report import MOST_BOUNDED, format_report, report_of
    from fabric.sim.scenario import Scenario, simulate
    from fabric.text_file import read_text
    from pools.flavors import load_catalogue

    config = load(settings).config
    was = recorded(config.database_url, parse_duration(since), catalogue=load_catalogue(config.flavors, tiers=config.tier_names))
    cluster = make_cluster(parse_capacity(cluster_text) if cluster_text else was.most_held, gpus_per_node=gpus_per_node)
    policy = read_policy(read_text(against, "policy"), catalogue=cluster.catalogue)
    scenario = Scenario(was.within(cluster.capacity), cluster, policy)
    outcome = simulate(scenario)
    if events is not None:
        write_leases(events, outcome.leases)
    document = report_of(scenario, outcome, has_bounds=len(scenario.jobs) <= MOST_BOUNDED)
    document["recorded"] = {"jct_h": was.jct_h, "makespan_s": was.makespan_s, "left_out": was.num_left_out}
    told = "as it went: mean completion time {jct_h:.2f} h, makespan {makespan_s:,.0f} s; {left_out} jobs left out".format(
        **document["recorded"]
    )
    emit(document, output, lambda: f"{format_report(document)}\n\n{told}")
