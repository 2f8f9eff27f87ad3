"""Nodes that are not there and would be started for work: which they are, and that tasks and jobs are sent there when that is best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fabric.capacity import capacities
from fabric.events import NodesObserved
from fabric.job import JobEstimate, JobId, Shape
from fabric.job_events import JobEstimated, JobStarted, JobSubmitted, NodesSeen
from fabric.lanes import Lanes
from fabric.plane import answers
from fabric.plane.event_text import event_rows
from fabric.plane.reporting import closed_nodes
from fabric.routing import RoutingPolicy, compile_plan
from fabric.status_form import format_status, pool_json
from fabric.tiers import format_tiers, tiers_json
from fabric.types import Estimate, Node, PoolSnapshot, Resources, Variant, asleep_type
from pools.asleep import CLOUD_WAKE_S, NodeTypes, NodeTypesFile, asleep, read_node_types
from pools.ledger import Ledger
from tests.answers_world import NO_TWINS, Plane
from tests.jobs import A100, CATALOGUE, CPU, Desk, machine, spec

HEAD = machine("h1", CPU, node_type="head")
TYPES = {
    "head": {"resources": {"CPU": 1}, "labels": {"tier": "cold", "flavor": "cpu"}, "max_workers": 0},
    "hot": {"resources": {"CPU": 16, "GPU": 4}, "labels": {"tier": "hot", "flavor": "a100-80g"}, "max_workers": 2},
    "cold": {"resources": {"CPU": 16}, "labels": {"tier": "cold", "flavor": "cpu"}, "max_workers": 3},
    "bare": {"resources": {"CPU": 16}, "labels": {}, "max_workers": 3},
}


def config(**changes: Any) -> dict[str, Any]:
    plain = {"head_node_type": "head", "available_node_types": TYPES, "max_workers": 4, "provider": {"type": "external"}}
    return plain | changes


def ids(nodes: tuple[Node, ...]) -> list[str]:
    return [node.node_id for node in nodes]


def sleeping(number: int = 0, kind: str = "hot") -> Node:
    found = asleep(read_node_types(config()), [HEAD])
    return next(node for node in found if node.node_id == f"asleep/{kind}/{number}")


def test_what_the_file_allows_and_is_not_there_is_asleep() -> None:
    known = read_node_types(config())
    assert ids(asleep(known, [HEAD])) == ["asleep/hot/0", "asleep/hot/1", "asleep/cold/0", "asleep/cold/1", "asleep/cold/2"]
    there = [HEAD, machine("a1", node_type="hot"), machine("c1", CPU, node_type="cold")]
    assert ids(asleep(known, there)) == ["asleep/hot/1", "asleep/cold/1", "asleep/cold/2"]
    one = asleep(known, there)[0]
    assert (one.tier, one.flavor, one.health, one.total["GPU"], one.wake_s) == ("hot", "a100-80g", "asleep", 4.0, 20.0)
    assert asleep_type(one.node_id) == "hot" and asleep_type("0123abcd") is None


def test_all_together_never_pass_the_most_of_the_cluster() -> None:
    there = [HEAD, *(machine(f"c{n}", CPU, node_type="cold") for n in range(3))]
    assert ids(asleep(read_node_types(config()), there)) == ["asleep/hot/0"]


def test_another_clusters_file_counts_for_nothing() -> None:
    assert asleep(read_node_types(config()), [machine("h1", CPU, node_type="local.node")]) == ()
    assert asleep(NodeTypes(), [machine("h1", CPU)]) == ()


def test_a_cloud_takes_longer_than_a_machine_of_ones_own() -> None:
    assert read_node_types(config(provider={"type": "aws"})).wake_s == CLOUD_WAKE_S > 20


def test_the_file_is_read_again_when_it_changes_and_may_be_missing_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    file = NodeTypesFile(path)
    assert file.read() == NodeTypes()
    path.write_text("head_node_type: head\navailable_node_types: {head: {}}\nmax_workers: 7\n")
    assert file.read().most == 7
    path.write_text("head_node_type: [")
    assert file.read() == NodeTypes()
    path.write_text("max_workers: many\n")
    assert file.read() == NodeTypes()


def test_a_pool_tells_of_its_own_tier() -> None:
    ledger = Ledger("hot")
    found = asleep(read_node_types(config()), [HEAD])
    ledger.handle(NodesObserved((HEAD,), found))
    before = ledger.version
    assert ids(ledger.snapshot().asleep) == ["asleep/hot/0", "asleep/hot/1"] and ledger.snapshot().nodes == ()
    ledger.handle(NodesObserved((HEAD,), found))
    assert ledger.version == before
    ledger.handle(NodesObserved((HEAD,), found[1:]))
    assert ledger.version == before + 1


def test_a_task_goes_to_a_flavor_that_is_asleep_only_where_that_is_worth_the_wait() -> None:
    snapshots = [PoolSnapshot("hot", 1, (), (), 1.0, (sleeping(),)), PoolSnapshot("cold", 1, (machine("c1", CPU),))]
    table = capacities(snapshots, CATALOGUE)
    assert table["a100-80g"].is_asleep and table["a100-80g"].num_nodes == 0 and not table["cpu"].is_asleep
    variants = [Variant("gpu", "a100-80g", Resources(num_gpus=1)), Variant("cpu", "cpu", Resources(num_cpus=1))]

    def chosen(cpu_s: float) -> tuple[str, float]:
        run_s = {"a100-80g": 1.0, "cpu": cpu_s}
        plan = compile_plan(variants, table, lambda flavor, _: Estimate(run_s[flavor.name], 0.1), RoutingPolicy(), Lanes())
        best = plan.choose()
        return best.flavor, best.wait_s()

    assert chosen(10.0) == ("cpu", 0.0)
    assert chosen(600.0) == ("a100-80g", 20.0)


def test_machines_that_are_there_are_filled_before_others_are_woken() -> None:
    desk = Desk(machine("a1"), sleeping())
    desk.submit(spec("one", Shape("a100", 4)), spec("two", Shape("a100", 4)), run_s=1000.0)
    assert [command.grant.nodes for command in desk.launched] == [("a1",), ("asleep/hot/0",)]
    assert desk.core.jobs[JobId("two")].grant is not None


def test_a_gang_that_fits_in_pieces_wakes_nobody() -> None:
    desk = Desk(machine("a1", gpus=2.0), machine("a2", gpus=2.0), sleeping())
    desk.submit(spec("gang", Shape("a100", 1, num_bundles=4)), run_s=1000.0)
    assert set(desk.launched[0].grant.nodes) == {"a1", "a2"}


@pytest.mark.parametrize(("left_s", "where"), [(10.0, "c1"), (1000.0, "asleep/hot/0")])
def test_a_job_wakes_what_ends_it_sooner_with_the_time_to_come_counted_in(left_s: float, where: str) -> None:
    """On the CPU it takes twice as long."""
    desk = Desk(machine("c1", CPU), sleeping())
    one = spec("one", Shape("a100", 1), Shape("cpu", cpus=1.0))
    rates = {(0, "a100-80g"): 2.0 / left_s, (1, "cpu"): 1.0 / left_s}
    desk.tell(JobSubmitted(one, "ann"), JobEstimated(one.job_id, JobEstimate(1.0, rates, 0.1)))
    assert desk.launched[0].grant.nodes == (where,)


def test_without_an_estimate_what_is_there_goes_first() -> None:
    desk = Desk(sleeping(), machine("c1", CPU))
    desk.submit(spec("one", Shape("a100", 1), Shape("cpu", cpus=1.0)))
    assert desk.launched[0].grant.nodes == ("c1",)


def test_a_ray_program_waits_for_nodes_that_are_there() -> None:
    desk = Desk(sleeping())
    desk.submit(spec("driver", Shape("a100", 1), form="ray-program"))
    assert not desk.launched and desk.why("driver") == "Resources"
    desk.tell(NodesSeen((machine("a1"),)))
    assert desk.launched[0].grant.nodes == ("a1",)


def test_a_job_says_that_its_node_is_being_started_and_holds_the_node_that_came() -> None:
    plane = Plane(sleeping())
    plane.submit(spec("one", Shape("a100", 4)), run_s=100.0)
    view = plane.view(plane.core.jobs[JobId("one")])
    assert (view.state, view.why, view.detail) == ("ADMITTED", "Waking", "hot")
    plane.tell(NodesSeen((machine("a1"),)))
    plane.tell(JobStarted(JobId("one"), 1, ("a1",)))
    assert plane.view(plane.core.jobs[JobId("one")]).nodes == ("a1",)
    plane.submit(spec("two", Shape("a100", 1)), run_s=100.0)
    assert plane.why("two") == "Resources", "what it holds is counted where it is"


def test_its_story_names_the_type_and_a_plan_the_time() -> None:
    plane = Plane(sleeping())
    form = answers.plan(plane.core, spec("mine", Shape("a100", 1)), JobEstimate(1.0, {(0, "a100-80g"): 0.01}, 0.1), {}, NO_TWINS, 0.0)
    (way,) = form["ways"]
    assert (way["verdict"], way["wait_s"], form["chosen"]) == ("Fit", 20.0, 0)
    assert way["detail"].startswith("a node is started first") and way["finish_s"] == pytest.approx(way["run_s"] + 20.0)
    body = {"attempt": 1, "grant": {"option": [0, "a100-80g", 1, 1.0], "nodes": ["asleep/hot/0"]}, "reason": "Fit"}
    row = event_rows([{"wall_s": 0.0, "kind": "JobDispatched", "by": "fabric", "body": body}])[0]
    assert "on a new hot (Fit)" in row["text"]


def test_one_that_is_asleep_is_no_closed_node() -> None:
    assert closed_nodes([sleeping(), machine("a1", health="cordoned")]) == {"a1"}


def test_status_and_tiers_count_them_apart() -> None:
    pool = PoolSnapshot("hot", 1, (), (), 1.0, (sleeping(), sleeping(1)))
    tier = pool_json(pool, CATALOGUE)
    assert tier["nodes"] == [] and tier["asleep"] == {"a100-80g": 2}
    form = {"name": "lab", "address": "x:1", "tiers": [tier], "unlabelled": [], "stragglers": [], "shipping": None, "console": None}
    totals = {"nodes": 0, "ready": 0, "twins": 0, "idle_usd_per_h": None, "nodes_without_price": 0}
    assert "asleep: 2 a100-80g (they start when work asks for them)" in format_status(form | {"totals": totals})
    from fabric.config import FabricConfig

    told = tiers_json(FabricConfig(), {A100.name: A100}, capacities([pool], CATALOGUE), is_all=False)
    flavor = told["tiers"][0]["flavors"][0]
    assert (flavor["nodes"], flavor["asleep_nodes"], flavor["slots"]) == (0, 2, 0)
    assert "(+2 asleep)" in format_tiers(told)
