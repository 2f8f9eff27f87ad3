"""What each rank of a granted attempt is told, and when a Ray job uses more than it declared. Pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabric import codec
from fabric.job import Form, Grant, JobId, JobSpec, LaunchSpec, Option, Shape
from fabric.running.launching import Attempt, Surroundings, orders, title_of
from fabric.running.over_use import over_use, total_of
from fabric.types import Flavor

GPU = Flavor("a100", "hot", "gpu", "nvidia", "GPU")
CPU = Flavor("cpu", "cold", "cpu", "x86", "CPU")
AROUND = Surroundings("10.0.0.1:6379", "file:///store", "/scratch")


def attempt(shape: Shape, nodes: tuple[str, ...], form: Form = "program", **how: object) -> Attempt:
    spec = JobSpec(JobId("j"), "try", "ann", "research", "normal", form, (Shape(), shape), "try", 0.0, timeout_s=60.0)
    return Attempt(3, spec, LaunchSpec(form, **how), 2, Grant(Option(1, "a100", len(nodes), 1.0, 1.0), nodes))  # type: ignore[arg-type]


def test_ranks_are_numbered_over_all_and_on_their_node() -> None:
    told = orders(attempt(Shape("a100", 4, num_bundles=3, memory_bytes=7), ("n1", "n2", "n1")), GPU, ("n1", "n2", "n1"), AROUND)
    assert [(o.rank, o.local_rank, o.world_size) for o in told] == [(0, 0, 3), (1, 0, 3), (2, 1, 3)]
    assert {(o.epoch, o.attempt_name, o.memory_bytes, o.timeout_s) for o in told} == {(3, "j.2", 7, 60.0)}
    assert told[0].declared == {"CPU": 3.0, "GPU": 12.0, "memory": 21.0}


def test_ray_s_dashboard_is_told_what_a_job_is_and_where_it_runs() -> None:
    one = attempt(Shape("a100", 4, num_bundles=2), ("n1", "n2"))
    shown = {"job_id": "j", "name": "try", "user": "ann", "queue": "research", "priority": "normal"}
    told = orders(one, GPU, ("n1", "n2"), AROUND)
    assert told[0].visible == {**shown, "attempt": "2", "tier": "hot", "flavor": "a100"}
    assert title_of(one, GPU, 1) == "job try of ann (queue research, a100, attempt 2, rank 1 of 2)"
    alone = replace(attempt(Shape(), ("n1",)), spec=replace(one.spec, priority=""))
    assert "priority" not in orders(alone, CPU, ("n1",), AROUND)[0].visible
    assert title_of(alone, CPU, 0) == "job try of ann (queue research, cpu, attempt 2)"


def test_the_granted_shape_counts_and_a_lone_bundle_is_not_spread() -> None:
    one = attempt(Shape("a100", 2, spread=True), ("n1",))
    assert one.bundle(GPU) == {"CPU": 1.0, "GPU": 2.0}
    assert not one.is_spread
    assert attempt(Shape("a100", 2, num_bundles=2, spread=True), ("n1", "n2")).is_spread


def test_after_an_oom_the_grant_s_factor_raises_what_is_reserved_and_the_limit() -> None:
    one = attempt(Shape("a100", 1, num_bundles=2, memory_bytes=7), ("n1", "n2"))
    more = replace(one, grant=replace(one.grant, memory_factor=2.0))
    assert more.bundle(GPU) == {"CPU": 1.0, "GPU": 1.0, "memory": 14.0}
    told = orders(more, GPU, ("n1", "n2"), AROUND)
    assert [o.memory_bytes for o in told] == [14, 14]
    assert told[0].declared["memory"] == 28.0
    assert one.bundle(GPU)["memory"] == 7.0, "the shape itself stays as it was asked for"


def test_a_shape_without_a_limit_has_none_after_an_oom_either() -> None:
    one = attempt(Shape(), ("n1",))
    more = replace(one, grant=replace(one.grant, memory_factor=2.0))
    assert more.bundle(CPU) == {"CPU": 1.0}
    assert orders(more, CPU, ("n1",), AROUND)[0].memory_bytes == 0


def test_a_grant_keeps_its_factor_in_the_journal_and_an_older_one_has_1() -> None:
    grant = Grant(Option(1, "a100", 1, 1.0, 1.0), ("n1",), 4.0)
    plain = codec.loads(codec.dumps(grant))
    assert codec.decode(Grant, plain) == grant
    del plain["memory_factor"]
    assert codec.decode(Grant, plain).memory_factor == 1.0


def test_a_bundle_is_never_nothing() -> None:
    assert attempt(Shape(cpus=0), ("n1",)).bundle(CPU) == {"CPU": 0.001}


@pytest.mark.parametrize(
    ("shape", "env", "shown"),
    [(Shape(), {}, ""), (Shape("a100", 1), {}, None), (Shape(), {"CUDA_VISIBLE_DEVICES": "0"}, None)],
)
def test_a_job_that_asked_for_no_accelerator_sees_none(shape: Shape, env: dict[str, str], shown: str | None) -> None:
    (order,) = orders(attempt(shape, ("n1",), env=env), GPU, ("n1",), AROUND)
    assert order.env.get("CUDA_VISIBLE_DEVICES") == shown


@pytest.mark.parametrize(
    ("declared", "used", "words"),
    [
        ({"CPU": 2.0}, {"CPU": 2.0}, ""),
        ({"CPU": 2.0}, {"CPU": 3.0}, "CPU 3 of 2"),
        ({"CPU": 2.0}, {"GPU": 1.0}, "GPU 1 of 0"),
        ({"CPU": 2.0}, {"CPU": 1.0, "memory": 5e9}, ""),
        ({"CPU": 2.0, "memory": 1e9}, {"CPU": 1.0, "memory": 5e9}, "memory 5e+09 of 1e+09"),
        ({"CPU": 1.0}, {"node:10.0.0.1": 0.001}, ""),
    ],
)
def test_over_use_is_what_was_not_declared(declared: dict[str, float], used: dict[str, float], words: str) -> None:
    assert over_use(declared, used) == words


def test_usage_adds_up_bundles_and_what_runs_beside_them() -> None:
    assert total_of([{"CPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}], [{"CPU": 0.5}]) == {"CPU": 2.5, "GPU": 1.0}
