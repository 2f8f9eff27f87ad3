"""Attempts on the real twin: three launch forms, gangs, preemption, cancelling, death of runners. Facts go to a collector."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle
import psutil
import pytest
import ray
from ray.experimental import internal_kv
from ray.job_submission import JobSubmissionClient

from fabric import ray_io
from fabric.artefacts import ArtefactStore
from fabric.job import Grant, JobId, JobSpec, LaunchSpec, Option, Shape
from fabric.job_events import JobEnded, JobFact, JobProgressed, JobStarted, JobVacated, LeaseRefused
from fabric.launch import start_actors
from fabric.running import placement
from fabric.running.host import HostSettings
from fabric.running.order import log_key, result_key
from fabric.running.port import RayRunners
from fabric.running.reports import ActorReport
from fabric.stored_log import StoredLog

EPOCH = 10**9
ON_HEAD = {"node:__internal_head__": 0.001}


class Collector:
    """Stands where the scheduler will: takes facts. `deaf` makes it refuse to take any."""

    def __init__(self) -> None:
        self._facts: list[JobFact] = []
        self._is_deaf = False

    def report(self, epoch: int, facts: Sequence[JobFact]) -> None:
        if self._is_deaf:
            raise ConnectionError("not now")
        self._facts += facts

    def of(self, job_id: str) -> list[JobFact]:
        return [fact for fact in self._facts if getattr(fact, "job_id", "") == job_id]

    def be_deaf(self, is_deaf: bool) -> None:
        self._is_deaf = is_deaf


class Bench:
    """A port, a store, and the facts of each job."""

    def __init__(self, client: Any, folder: Path) -> None:
        self.catalogue = client.catalogue
        self.store = ArtefactStore(f"file://{folder}/store")
        self.collector = ray.remote(Collector).options(name="collector", namespace="fabric", num_cpus=0, resources=ON_HEAD).remote()
        self.settings = HostSettings(ActorReport("collector"), self.store.url, str(folder / "scratch"))
        self.port = self.new_port()
        self.nodes = {node.flavor: node.node_id for node in ray_io.living_nodes()}

    def new_port(self) -> RayRunners:
        return RayRunners(self.settings, self.catalogue, EPOCH)

    def launch(self, command: str = "", attempt: int = 1, job_id: str | None = None, **kwargs: Any) -> str:
        """A job of one bundle on the CPU flavor unless said otherwise."""
        job_id = job_id or str(uuid4())
        shape = kwargs.pop("shape", Shape(cpus=0.5))
        form = kwargs.pop("form", "program")
        flavor = kwargs.pop("flavor", "cpu")
        spec_of = {key: kwargs.pop(key) for key in ("timeout_s",) if key in kwargs}
        spec = JobSpec(JobId(job_id), "try", "ann", "default", "normal", form, (shape,), "try", 0.0, **spec_of)
        how = LaunchSpec(form, command=command, **kwargs)
        grant = Grant(Option(0, flavor, shape.num_bundles, 1.0, 1.0), (self.nodes[flavor],) * shape.num_bundles)
        self.port.launch(EPOCH, spec, how, attempt, grant)
        return job_id

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        return self.launch(form="callable", payload=self.store.put(cloudpickle.dumps((fn, args, {}))), **kwargs)

    def facts(self, job_id: str) -> list[JobFact]:
        found: list[JobFact] = ray.get(self.collector.of.remote(job_id))
        return found

    def wait(self, job_id: str, kind: type, timeout_s: float = 60.0, attempt: int = 1) -> Any:
        """The first fact of a kind."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            for fact in self.facts(job_id):
                if isinstance(fact, kind) and fact.attempt == attempt:  # type: ignore[union-attr]
                    return fact
            assert time.monotonic() < deadline_s, f"no {kind.__name__} in {timeout_s} s; facts: {self.facts(job_id)}"
            time.sleep(0.02)

    def log(self, job_id: str, rank: int = 0, attempt: int = 1) -> str:
        return StoredLog(self.store, log_key(job_id, attempt, rank)).read().decode()

    def wait_log(self, job_id: str, text: str, timeout_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while text not in self.log(job_id):
            assert time.monotonic() < deadline_s, (self.log(job_id), self.facts(job_id))
            time.sleep(0.05)


@pytest.fixture(scope="module")
def bench(twin: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    ray_io.end_actor("scheduler")  # the collector stands in its place, and the port here runs under a later epoch
    end_warm_hosts()
    bench = Bench(twin, tmp_path_factory.mktemp("running"))
    yield bench
    ray.kill(bench.collector)
    end_warm_hosts()
    internal_kv._internal_kv_del(placement._EPOCH_KEY)
    start_actors(twin.config, twin.catalogue)


def end_warm_hosts() -> None:
    for name in placement.actor_names():
        if name.startswith("warm/"):
            ray_io.end_actor(name)


def living_with(variable: str) -> list[psutil.Process]:
    """Processes that carry a mark in their environment: what a job started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == variable and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def host_of(process: psutil.Process) -> psutil.Process:
    """The Ray worker above it."""
    return next(parent for parent in process.parents() if "ray::" in parent.name() or "ray::" in " ".join(parent.cmdline()))


def test_a_program_runs_in_its_lease_and_its_log_outlives_it(bench: Bench, eventually: Callable[..., Any]) -> None:
    job_id = bench.launch('echo "$RANK/$WORLD_SIZE on $MASTER_ADDR:$MASTER_PORT, $WHO $TOKEN"', env={"WHO": "me"}, secrets={"TOKEN": "t0k"})
    assert bench.wait(job_id, JobStarted).nodes == (bench.nodes["cpu"],)
    assert bench.wait(job_id, JobEnded).outcome == "ok"
    assert bench.log(job_id).startswith("0/1 on ")
    assert bench.log(job_id).endswith(", me t0k\n")
    eventually(lambda: not any(job_id in name for name in placement.leases()))


def test_a_program_that_fails_says_how(bench: Bench) -> None:
    ended = bench.wait(bench.launch("echo no such luck >&2; exit 3"), JobEnded)
    assert (ended.outcome, ended.exit_code, ended.message) == ("error", 3, "exit code 3: no such luck")


def test_all_ranks_of_a_gang_run_together(bench: Bench) -> None:
    job_id = bench.launch('echo "rank $RANK local $LOCAL_RANK of $WORLD_SIZE"', shape=Shape(cpus=0.5, num_bundles=2))
    assert len(bench.wait(job_id, JobStarted).nodes) == 2
    assert bench.wait(job_id, JobEnded).outcome == "ok"
    assert [bench.log(job_id, rank) for rank in (0, 1)] == ["rank 0 local 0 of 2\n", "rank 1 local 1 of 2\n"]


def test_a_rank_that_fails_ends_all_others(bench: Bench) -> None:
    mark = uuid4().hex
    job_id = bench.launch('[ "$RANK" = 1 ] && exit 9; sleep 300', shape=Shape(cpus=0.5, num_bundles=2), env={"MARK": mark})
    ended = bench.wait(job_id, JobEnded)
    assert (ended.outcome, ended.exit_code) == ("error", 9)
    assert not living_with(mark)


RESUMES = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["FABRIC_CHECKPOINT_DIR"])
file = folder / "step"
step = int(file.read_text()) if file.exists() else 0
print("starts at", step, flush=True)
def leave(*_):
    file.write_text(str(step))
    pathlib.Path(os.environ["FABRIC_PROGRESS"]).write_text(json.dumps({"done": step, "total": 1000}))
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
while step < 1000:
    step += 1
    time.sleep(0.02)
    pathlib.Path(os.environ["FABRIC_PROGRESS"]).write_text(json.dumps({"done": step, "total": 1000}) + "\\n")
"""


def test_a_preempted_program_goes_on_from_its_checkpoint(bench: Bench) -> None:
    command = f"exec python -c '{RESUMES}'"
    job_id = bench.launch(command)
    assert bench.wait(job_id, JobProgressed).total == 1000
    bench.port.preempt(EPOCH, JobId(job_id), 1)
    done = bench.wait(job_id, JobVacated).done
    assert done > 0
    bench.launch(command, attempt=2, job_id=job_id)
    bench.wait(job_id, JobStarted, attempt=2)
    deadline_s = time.monotonic() + 30
    while not (text := bench.log(job_id, attempt=2)):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert text == f"starts at {done:.0f}\n"
    bench.port.kill(EPOCH, JobId(job_id), 2, "cancelled")
    assert bench.wait(job_id, JobEnded, attempt=2).outcome == "cancelled"


def test_a_program_that_ends_well_within_its_grace_has_succeeded(bench: Bench) -> None:
    job_id = bench.launch("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    bench.wait_log(job_id, "ready")
    bench.port.preempt(EPOCH, JobId(job_id), 1)
    assert bench.wait(job_id, JobEnded).outcome == "ok"


def test_a_cancelled_program_ends_with_all_that_it_started(bench: Bench) -> None:
    mark = uuid4().hex
    job_id = bench.launch("trap '' TERM; setsid sleep 300 & echo ready; sleep 300", env={"MARK": mark})
    bench.wait_log(job_id, "ready")
    bench.port.kill(EPOCH, JobId(job_id), 1, "cancelled")
    assert bench.wait(job_id, JobEnded).outcome == "cancelled"
    assert not living_with(mark)


def test_a_program_over_its_time_limit_is_ended(bench: Bench) -> None:
    assert bench.wait(bench.launch("sleep 300", timeout_s=1.0), JobEnded).outcome == "timeout"


def test_a_program_over_its_memory_is_ended_as_out_of_memory(bench: Bench) -> None:
    hold = "python -c 'b = bytearray(300 * 2**20); import time; time.sleep(300)'"
    ended = bench.wait(bench.launch(hold, shape=Shape(cpus=0.5, memory_bytes=100 * 2**20)), JobEnded)
    assert ended.outcome == "oom", ended


def test_a_lease_that_ray_cannot_place_is_refused_and_nothing_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.running.placement.RESERVE_TIMEOUT_S", 1.0)
    job_id = bench.launch("true", shape=Shape(cpus=10_000))
    assert "no room" in bench.wait(job_id, LeaseRefused).why
    assert not any(job_id in name for name in placement.leases())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_runner_that_is_sigkilled_leaves_no_orphan_and_is_lost(bench: Bench, rank: int, eventually: Callable[..., Any]) -> None:
    mark = uuid4().hex
    job_id = bench.launch("setsid sleep 300 & sleep 300", shape=Shape(cpus=0.5, num_bundles=2), env={"MARK": mark})
    bench.wait(job_id, JobStarted)
    runner = host_of(next(one for one in living_with(mark) if one.environ()["RANK"] == str(rank)))
    os.kill(runner.pid, signal.SIGKILL)
    assert bench.wait(job_id, JobEnded).outcome == "lost"
    eventually(lambda: not living_with(mark))
    eventually(lambda: not any(job_id in name for name in placement.leases()))


def test_facts_wait_for_a_scheduler_that_is_away_and_a_new_one_takes_over(bench: Bench) -> None:
    job_id = bench.launch("echo ready; while [ ! -e go ]; do sleep 0.05; done")
    bench.wait_log(job_id, "ready")
    bench.port = bench.new_port()
    assert (job_id, 1) in bench.port.living()
    ray.get(bench.collector.be_deaf.remote(True))
    bench.port.preempt(EPOCH, JobId(job_id), 1)
    time.sleep(2.0)
    assert not any(isinstance(fact, JobVacated) for fact in bench.facts(job_id))
    ray.get(bench.collector.be_deaf.remote(False))
    bench.wait(job_id, JobVacated)
    deadline_s = time.monotonic() + 30
    while (job_id, 1) in bench.port.living():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_call_runs_warm_and_its_result_is_stored(bench: Bench) -> None:
    bench.wait(bench.call(lambda: None), JobEnded)  # the node's host is up from now on
    time.sleep(1.0)
    asked_s = time.time()
    job_id = bench.call(lambda x: (x + 1, time.time()), 41)
    assert bench.wait(job_id, JobEnded).outcome == "ok"
    is_ok, (value, began_s) = pickle.loads(bench.store.read_bytes(result_key(job_id)))
    print(f"callable: launch to first line {1000 * (began_s - asked_s):.0f} ms")
    assert (is_ok, value) == (True, 42)
    assert began_s - asked_s < 2.0


def test_a_call_s_exception_is_its_result(bench: Bench) -> None:
    job_id = bench.call(lambda: 1 // 0)
    ended = bench.wait(job_id, JobEnded)
    assert (ended.outcome, ended.message) == ("error", "exit code 1: ZeroDivisionError: integer division or modulo by zero")
    assert isinstance(pickle.loads(bench.store.read_bytes(result_key(job_id)))[1], ZeroDivisionError)


def test_a_call_on_an_accelerator_sees_its_own_device(bench: Bench) -> None:
    job_id = bench.call(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"), flavor="a100-80g", shape=Shape(accelerators=1, cpus=0.5))
    assert bench.wait(job_id, JobEnded).outcome == "ok"
    assert pickle.loads(bench.store.read_bytes(result_key(job_id))) == (True, "0")


def test_a_call_whose_host_is_sigkilled_is_lost(bench: Bench, eventually: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "pid"
    job_id = bench.call(lambda: file.write_text(str(os.getpid())) and time.sleep(300))  # type: ignore[func-returns-value]
    child = psutil.Process(int(eventually(lambda: file.exists() and file.read_text())))
    os.kill(host_of(child).pid, signal.SIGKILL)
    assert bench.wait(job_id, JobEnded).outcome == "lost"
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


DRIVES = """
import os, time, ray
ray.init(log_to_driver=False)
@ray.remote(num_cpus=0.5)
def work(i):
    time.sleep(0.2)
    return i
print("sum", sum(ray.get([work.remote(i) for i in range(4)])), os.environ["TOKEN"], os.environ["WHO"], flush=True)
"""


def test_a_ray_program_is_a_driver_of_ray_s_jobs_api(bench: Bench) -> None:
    job_id = bench.launch(f"python -c '{DRIVES}'", form="ray-program", shape=Shape(cpus=2), env={"WHO": "me"}, secrets={"TOKEN": "t0k"})
    assert bench.wait(job_id, JobStarted, timeout_s=120).nodes == (bench.nodes["cpu"],)
    info = JobSubmissionClient(ray_io.address()).get_job_info(f"{job_id}.1")
    assert info.metadata["name"] == "try"
    assert "t0k" not in repr(info)
    ended = bench.wait(job_id, JobEnded, timeout_s=120)
    assert ended.outcome == "ok", (ended, bench.log(job_id))
    assert "sum 6 t0k me\n" in bench.log(job_id)


GREEDY = """
import time, ray
ray.init(log_to_driver=False)
@ray.remote(num_cpus=1)
class Holder:
    def ping(self): return 1
holders = [Holder.remote() for _ in range(2)]
ray.get([h.ping.remote() for h in holders])
print("held", flush=True)
time.sleep(300)
"""


def test_a_ray_program_that_uses_more_than_it_declared_is_stopped(bench: Bench) -> None:
    job_id = bench.launch(f"python -c '{GREEDY}'", form="ray-program", shape=Shape(cpus=1), grace_s=2)
    ended = bench.wait(job_id, JobEnded, timeout_s=120)
    assert (ended.outcome, ended.message) == ("error", "OverUse: CPU 2 of 1")


def test_a_preempted_ray_program_is_vacated_with_its_checkpoint(bench: Bench) -> None:
    job_id = bench.launch(f"exec python -c '{RESUMES}'", form="ray-program", grace_s=10)
    assert bench.wait(job_id, JobProgressed, timeout_s=120).total == 1000
    bench.port.preempt(EPOCH, JobId(job_id), 1)
    assert bench.wait(job_id, JobVacated).done > 0
    assert bench.store.entries(f"checkpoints/{job_id}")


TRAINS = """
from ray import train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from fabric.train_callback import TrainProgress
def loop():
    for step in range(3):
        train.report({"step": step + 1})
config = train.RunConfig(callbacks=[TrainProgress(total=3, done="step", unit="step")], storage_path="/tmp/STORAGE")
DataParallelTrainer(loop, scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}), run_config=config).fit()
"""


def test_a_ray_train_run_reports_its_progress(bench: Bench, tmp_path: Path) -> None:
    script = TRAINS.replace("/tmp/STORAGE", str(tmp_path))
    job_id = bench.launch(f"python -c '{script}'", form="ray-program", shape=Shape(cpus=2))
    ended = bench.wait(job_id, JobEnded, timeout_s=150)
    assert ended.outcome == "ok", (ended, bench.log(job_id)[-2000:])
    last = [fact for fact in bench.facts(job_id) if isinstance(fact, JobProgressed)][-1]
    assert (last.done, last.total) == (3.0, 3.0)
