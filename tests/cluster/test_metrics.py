"""What Prometheus really finds at Ray's agents, and what Ray's dashboard shows, while tasks, jobs and a model run on the twin."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import fabric
from fabric import ray_io
from fabric.metrics.declared import DECLARED
from fabric.metrics.metric import Metric
from fabric.metrics.panels import ROWS
from fabric.metrics.scrape import DISCOVERY
from serve_apps import ModelService

UNTIL_S = 90.0
NUM_CALLS, NUM_REQUESTS = 40, 30
# What needs something that does not happen here: preemption, refusal, a loss, GPUs, a price or a quota that the twin has not, a rollout.
ABSENT = {
    "fabric_pool_gpu_busy_ratio",
    "fabric_quota_nominal_units",
    "fabric_quota_held_units",
    "fabric_quota_borrowed_units",
    "fabric_queue_budget_left_usd",
    "fabric_job_preemptions",
    "fabric_job_lease_refusals",
    "fabric_model_errors",
    "fabric_model_gpu_utilization_ratio",
    "fabric_model_scalings",
    "fabric_model_replicas_lost",
    "fabric_rollout_state",
    "fabric_rollout_step_ratio",
    "fabric_rollout_guard",
}
Series = dict[str, list[tuple[dict[str, str], float]]]
"""Name of a sample -> (labels, value) of each of its series."""


@fabric.task(name="halve")
def halve(x: float) -> float:
    time.sleep(0.002)
    return x / 2


@pytest.fixture(scope="module")
def model(twin: Any) -> Iterator[Any]:
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])

    class Metered(ModelService):
        def predict(self, x: list[float]) -> list[float]:
            return [2 * each for each in x]

    service = Metered()
    service.deploy(port=port)
    yield service
    for name in ("models", "ingress"):
        ray_io.end_actor(name)
    serve.shutdown()


@pytest.fixture(scope="module")
def running(twin: Any, model: Any, eventually: Callable[..., Any]) -> Iterator[Any]:
    """A job that runs on, after others have ended; tasks and requests that have been answered."""
    from fabric.jobs import default

    eventually(lambda: _or_none(default), 60.0)
    assert fabric.submit("exit 3", name="fails-once", max_retries=1).wait(timeout_s=UNTIL_S) == "FAILED"
    job = fabric.submit("sleep 300", name="naps", cpus=0.2)
    eventually(lambda: job.status() == "RUNNING", UNTIL_S)
    assert halve.map(range(NUM_CALLS)) == [x / 2 for x in range(NUM_CALLS)]
    for _ in range(NUM_REQUESTS):
        assert model.predict([1.0]) == [2.0]
    yield job
    job.cancel()


def _or_none(fn: Callable[[], Any]) -> Any:
    try:
        return fn()
    except fabric.FabricError:
        return None


def scraped() -> Series:
    """Every sample of every endpoint that Ray's head lists, as Prometheus reads them."""
    listed = json.loads((ray_io.session_directory() / Path(DISCOVERY).name).read_text(encoding="utf-8"))
    found: Series = {}
    for address in listed[0]["targets"]:
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:  # an agent that has just started, or has ended
            continue
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def scraped_until(holds: Callable[[Series], bool]) -> Series:
    deadline_s, tick = time.monotonic() + UNTIL_S, threading.Event()
    while not holds(found := scraped()):
        if time.monotonic() > deadline_s:
            break
        tick.wait(2.0)
    return found


def sample_names(metric: Metric) -> tuple[str, ...]:
    if metric.kind != "histogram":
        return (metric.exported,)
    return tuple(f"{metric.exported}_{part}" for part in ("bucket", "sum", "count"))


def summed(found: Series, metric: Metric, **labels: str) -> float:
    name = sample_names(metric)[-1]
    total = sum(value for told, value in found.get(name, []) if all(told.get(key) == each for key, each in labels.items()))
    return round(total, 6)  # a new counter begins a billionth above 0


@pytest.fixture(scope="module")
def found(running: Any) -> Series:
    expected = [name for metric in DECLARED.values() if metric.name not in ABSENT for name in sample_names(metric)]

    counted = {
        "fabric_task_calls": NUM_CALLS,
        "fabric_model_requests": NUM_REQUESTS,
        "fabric_model_rows": NUM_REQUESTS,
        "fabric_jobs_ended": 1,
        "fabric_job_retries": 1,
    }

    def is_whole(series: Series) -> bool:
        return all(name in series for name in expected) and all(summed(series, DECLARED[name]) >= num for name, num in counted.items())

    return scraped_until(is_whole)


def test_every_metric_appears_with_its_labels(found: Series) -> None:
    for metric in DECLARED.values():
        if metric.name in ABSENT:
            continue
        for name in sample_names(metric):
            assert found.get(name), f"{name} is not told"
            for labels, _ in found[name]:
                assert {*metric.labels, "SessionName"} <= set(labels), name


def test_nothing_is_told_that_is_not_declared(found: Series) -> None:
    declared = {name for metric in DECLARED.values() for name in sample_names(metric)}
    assert {name for name in found if name.startswith("ray_fabric_")} <= declared


def test_every_name_of_the_dashboard_is_ours_or_ray_s(found: Series) -> None:
    declared = {name for metric in DECLARED.values() for name in sample_names(metric)}
    asked = {
        name for row in ROWS for panel in row.panels for query in panel.queries for name in re.findall(r"\bray_[a-z0-9_]+", query.text)
    }
    others = asked - declared
    assert others and others <= set(found)
    rays = {label for name in others for labels, _ in found[name] for label in labels}
    assert {"State", "SessionName"} <= rays


def test_the_figures_are_those_of_what_ran(found: Series, running: Any) -> None:
    def total(name: str, **labels: str) -> float:
        return summed(found, DECLARED[name], **labels)

    assert {labels["tier"] for labels, _ in found["ray_fabric_pool_nodes"]} == {"hot", "warm", "cold"}
    assert total("fabric_pool_nodes", health="ready") == 3
    assert total("fabric_pool_accelerators", tier="hot") == 1 and total("fabric_pool_idle_usd_per_hour", tier="hot") > 0
    assert total("fabric_queue_jobs", queue="default", state="RUNNING") >= 1
    assert total("fabric_jobs_ended", state="FAILED") >= 1 and total("fabric_job_retries", outcome="error") >= 1
    assert total("fabric_job_wait_seconds", queue="default") >= 2
    assert total("fabric_scheduler_decision_seconds") >= 1 and total("fabric_scheduler_commit_seconds") >= 1
    assert total("fabric_task_calls", outcome="ok") >= NUM_CALLS
    assert total("fabric_task_run_seconds") >= NUM_CALLS
    assert all(labels["queue"] for labels, _ in found["ray_fabric_task_cost_usd_total"]), "a model's runs are no tasks"
    assert total("fabric_model_requests", model="metered", version="1") == NUM_REQUESTS
    assert total("fabric_model_latency_seconds", model="metered") == NUM_REQUESTS
    assert total("fabric_model_rows", model="metered") == NUM_REQUESTS
    assert total("fabric_model_replicas", model="metered", tier="cold") == 1


def asked(twin: Any, path: str) -> Any:
    """From Ray's dashboard."""
    from ray.job_submission import JobSubmissionClient

    answer = JobSubmissionClient(ray_io.address())._do_request("GET", path)
    assert answer.status_code == 200, path
    return answer.json()


def test_ray_s_dashboard_names_programs_jobs_actors_and_models(twin: Any, running: Any, model: Any) -> None:
    jobs = asked(twin, "/api/jobs/")
    drivers = [job["metadata"] for job in jobs if job["type"] == "DRIVER"]
    assert any(one.get("name") and one.get("user") == twin.config.user and one.get("queue") == twin.config.queue for one in drivers)
    actors = {actor["name"]: actor for actor in asked(twin, "/api/v0/actors?detail=1&limit=1000")["data"]["result"]["result"]}
    told = {name: actors[name]["repr_name"] for name in ("scheduler", "profiler", "pool-hot", "models", "ingress")}
    assert told == {name: name for name in told}
    runners = [actor["repr_name"] for name, actor in actors.items() if name.startswith("job/naps/")]
    assert runners == [f"job naps of {twin.config.user} (queue default, cpu, attempt 1)"]
    groups = asked(twin, "/api/v0/placement_groups?detail=1&limit=1000")["data"]["result"]["result"]
    assert f"lease-{running.id}.1" in {group["name"] for group in groups if group["state"] == "CREATED"}
    assert asked(twin, "/api/serve/applications/")["applications"]["metered.v1"]["deployments"].keys() == {"metered"}


def test_a_ray_program_shows_whose_it_is_and_where_it_runs(twin: Any, running: Any, eventually: Callable[..., Any]) -> None:
    job = fabric.submit("sleep 300", name="drives", form="ray-program", cpus=0.2)
    try:
        eventually(lambda: job.status() == "RUNNING", UNTIL_S)
        (shown,) = [one["metadata"] for one in asked(twin, "/api/jobs/") if one["submission_id"] == f"{job.id}.1"]
        assert shown == {
            "job_id": job.id,
            "name": "drives",
            "user": twin.config.user,
            "queue": "default",
            "attempt": "1",
            "tier": "cold",
            "flavor": "cpu",
        }
    finally:
        job.cancel()
