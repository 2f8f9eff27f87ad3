"""Recorded jobs under two policies: the same jobs on the nodes that there are, what is left out counted, both sides told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fabric.errors import UserError
from fabric.job import Shape
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.sim.replay import Recorded
from fabric.sim.trace import TraceJob
from fabric.sim.what_if import Question, cluster_of, compare
from fabric.types import Flavor
from fabric.what_if_form import SIDE_KEYS, WHAT_IF_KEYS, render_what_if
from tests.jobs import A100, CATALOGUE, CPU, T4, machine

NODES = (machine("a1"), machine("t1", T4, gpus=2.0))
HIGH_FIRST = Policy(classes=(PriorityClass("high", value=1), PriorityClass("low")), restart_s=0.0)
LOW_FIRST = Policy(classes=(PriorityClass("low", value=1), PriorityClass("high")), restart_s=0.0)


def job(line: int, seconds: float, *, gpus: int = 4, at_s: float = 0.0, flavor: str = A100.name, **more: Any) -> TraceJob:
    return TraceJob(line, f"j{line}", "f", Shape("", gpus, 0.0), 1.0, at_s, {flavor: 1.0 / seconds}, **more)


def was(*jobs: TraceJob, num_left_out: int = 0, num_too_many: int = 0, most_held: dict[str, int] | None = None) -> Recorded:
    return Recorded(list(jobs), num_left_out, most_held or {}, 1.5, 9000.0, num_too_many)


def asked(current: Policy = HIGH_FIRST, proposed: Policy = LOW_FIRST) -> Question:
    return Question(CATALOGUE, NODES, current, proposed)


def test_the_policy_in_force_and_the_proposed_one_order_the_same_jobs_differently() -> None:
    """A short one of class high and a long one of class low, behind one that holds the node."""
    jobs = (job(0, 100.0), job(1, 10.0, at_s=1.0, priority="high"), job(2, 1000.0, at_s=1.0, priority="low"))
    found = compare(was(*jobs), asked())
    assert found["current"].keys() == found["proposed"].keys() == set(SIDE_KEYS)
    assert found["current"]["jct_h"] == pytest.approx((100 + 109 + 1109) / 3 / 3600)
    assert found["proposed"]["jct_h"] == pytest.approx((100 + 1099 + 1109) / 3 / 3600)
    assert found["current"]["makespan_s"] == found["proposed"]["makespan_s"] == pytest.approx(1110.0)
    assert found["current"]["cost_usd"] == pytest.approx(4 * 3.6 * 1110 / 3600)
    assert found["current"]["utilisation_frac"] == pytest.approx(4 / 6), "of both flavors of the fabric"
    assert (found["jobs"], found["left_out"], found["recorded"]) == (3, 0, {"jct_h": 1.5, "makespan_s": 9000.0})


def test_the_same_policy_twice_gives_the_same_figures() -> None:
    jobs = [job(line, 50.0 + 7 * line, gpus=1 + line % 4, at_s=10.0 * line) for line in range(30)]
    found = compare(was(*jobs), asked(HIGH_FIRST, replace(HIGH_FIRST, name="again", version=7)))
    assert found["current"] == found["proposed"] and found["jobs"] == 30


def test_what_cannot_be_replayed_is_left_out_of_both_sides_and_counted_by_its_reason() -> None:
    research = Policy(queues=(QueuePolicy("default"), QueuePolicy("research")), restart_s=0.0)
    only_default = Policy(queues=(QueuePolicy("default"), QueuePolicy("other")), restart_s=0.0)
    jobs = (job(0, 10.0), job(1, 10.0, queue="research"), job(2, 10.0, gpus=64), job(3, 10.0, flavor="gone"), job(4, 10.0, after=(1, 0)))
    found = compare(was(*jobs, num_left_out=3, num_too_many=9), asked(research, only_default))
    assert (found["jobs"], found["left_out"]) == (2, 15)
    assert found["left_out_why"] == {"not_succeeded": 3, "too_many": 9, "unknown_queue": 1, "no_room": 2}
    assert found["current"]["jobs"] == found["proposed"]["jobs"] == 2
    assert found["current"]["makespan_s"] == pytest.approx(20.0), "j4 came after j0 alone"


def test_nothing_to_replay_is_told_with_a_way_out() -> None:
    with pytest.raises(UserError, match="none of the jobs") as told:
        compare(was(job(0, 10.0, gpus=64), num_left_out=2), asked())
    assert told.value.code == "no_jobs"


def test_a_policy_under_which_a_job_never_starts_is_named() -> None:
    shut = Policy(queues=(QueuePolicy("default", nominal={"gpu": 2.0}),), restart_s=0.0)
    with pytest.raises(UserError, match="under the proposed policy: ") as told:
        compare(was(job(0, 10.0)), asked(Policy(restart_s=0.0), shut))
    assert told.value.code == "never_starts"


def test_progress_grows_to_one_over_both_sides() -> None:
    seen: list[float] = []
    compare(was(*(job(line, 10.0, at_s=float(line)) for line in range(8))), asked(), seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and any(0.0 < frac < 0.5 for frac in seen) and any(0.5 < frac < 1.0 for frac in seen)


def test_the_cluster_is_the_nodes_that_are_ready_and_what_jobs_once_held_beyond_them() -> None:
    nodes = (
        *NODES,
        machine("a2", health="cordoned"),
        machine("c1", CPU, cpus=3.5),
        machine("x", Flavor("unheard", "hot", "gpu", "x", "GPU")),
    )
    cluster = cluster_of(nodes, {"t4": 5, "cpu": 2, "a100-80g": 9}, CATALOGUE)
    assert cluster.sizes == {"a100-80g": [4, 4, 4], "t4": [2, 2, 2], "cpu": [3]}
    assert cluster.capacity == {"a100-80g": 12, "t4": 6, "cpu": 3}
    assert cluster_of((), {"t4": 9}, CATALOGUE).sizes == {"t4": [8, 8]}


def test_both_sides_are_a_table_with_the_change_and_what_was_left_out() -> None:
    side = dict(zip(SIDE_KEYS, (12, 1.0, 2.0, 7200.0, 40.0, 0.5, 0, 3), strict=True))
    other = {**side, "jct_h": 0.5, "cost_usd": None, "misses": 2}
    form = dict.fromkeys(WHAT_IF_KEYS) | {
        "jobs": 12, "since_s": 86400.0, "left_out": 4, "left_out_why": {"not_succeeded": 3, "too_many": 1}, "current": side,
        "proposed": other, "recorded": {"jct_h": 1.25, "makespan_s": 7000.0},
    }  # fmt: skip
    text = render_what_if(form)
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["mean completion time"][3:] == ["1", "h", "0", "m", "30", "m", "0", "s", "-50.0", "%"]
    assert lines["cost"] == ["cost", "$40.00", "-", "-"] and lines["deadlines missed"][2:] == ["0", "2", "+2"]
    assert lines["restarts"] == ["restarts", "3", "3", "="] and lines["utilisation"][1:3] == ["50.0", "%"]
    assert "left out 4 jobs: 3 did not succeed, or not yet, 1 came before the newest that are replayed" in text
    assert "as it went: mean completion time 1 h 15 m, makespan 1 h 56 m" in text
