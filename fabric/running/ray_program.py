"""One attempt of a `ray-program`: a driver under Ray's Jobs API, whose tasks and actors take resources by themselves.

Its lease is only a reservation in the ledger, so what it uses is watched: more than it declared, twice in a row, and it
is stopped (`OverUse`). The driver runs on the node of the host that leads it. Invariant: secrets are in a file of mode
0600 on that node, never in what Ray's dashboard shows; they reach the driver, not its workers.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors, list_placement_groups, list_tasks

from fabric import ray_io
from fabric.errors import RuntimeFault
from fabric.running import checkpoints
from fabric.running.log_ship import LogShipper, last_lines
from fabric.running.order import Ending, Order, log_key, parse_attempt
from fabric.running.over_use import over_use, total_of
from fabric.running.progress_file import Progress, ProgressFile
from fabric.running.rank import OOM_LINE
from fabric.running.stores import RunStore

WATCH_S = 0.5
USAGE_EVERY_S = 3.0
START_TIMEOUT_S = 900.0
KEPT_BY_RAY = ("RAY_ADDRESS", "FABRIC_ADDRESS", "CUDA_VISIBLE_DEVICES")
_OWN_PYTHON = {"pip", "uv", "conda", "py_executable", "container", "image_uri"}
"""Of a runtime_env: with one of them `python` is another than this host's."""
_LIMIT = 10_000
_log = logging.getLogger(__name__)


class DriverRank:
    """A `Rank` whose process is Ray's to start and stop."""

    def __init__(self, order: Order, store: RunStore, node_id: str, woken: threading.Event) -> None:
        self.order = order
        self._store = store
        self._node_id = node_id
        self._woken = woken
        self._home = Path(order.scratch) / order.attempt_name / "driver"
        self._work = self._home / "work"
        self._checkpoint_dir = self._work / (order.how.checkpoint_dir or "checkpoints")
        self._progress: ProgressFile | None = None
        self._shipper: LogShipper | None = None
        self._ending: Ending | None = None
        self._grace_s: float | None = None
        self._is_over_use = ""
        self._log_file = _logs_of_session() / f"job-driver-{order.attempt_name}.log"

    def begin(self) -> str:
        order = self.order
        client = _client()
        shutil.rmtree(self._home, ignore_errors=True)
        self._work.mkdir(parents=True, mode=0o700)
        if order.how.working_dir:
            self._store.unpack(order.how.working_dir, self._work)
        self._checkpoint_dir.mkdir(parents=True, exist_ok=True)
        kept = checkpoints.restore(self._store, order.job_id, self._checkpoint_dir) if order.attempt > 1 else None
        self._progress = ProgressFile(self._home / "progress", self._checkpoint_dir, kept)
        self._submit(client)
        self._shipper = LogShipper(self._log_file, lambda data, at: self._store.append(log_key(order.job_id, order.attempt, 0), data, at))
        self._wait_until_started(client)
        threading.Thread(target=self._watch, args=(client,), name="ray-program", daemon=True).start()
        return self._node_id

    def poll(self) -> Ending | None:
        return self._ending

    def stop(self, grace_s: float) -> None:
        """Ray sends SIGTERM, and SIGKILL after the job's own grace; a shorter one is not in its hands."""
        if self._grace_s is None:
            self._grace_s = grace_s
            threading.Thread(target=self._stop, daemon=True).start()

    def progress(self) -> Progress | None:
        return self._progress.read() if self._progress is not None else None

    def keep(self) -> bool:
        return checkpoints.keep(self._store, self.order.job_id, self.order.attempt, 0, self._checkpoint_dir)

    def close(self) -> None:
        if self._shipper is not None:
            self._shipper.close()
        shutil.rmtree(self._home.parent, ignore_errors=True)

    def _submit(self, client: JobSubmissionClient) -> None:
        order, how = self.order, self.order.how
        ours = {
            "FABRIC_JOB_ID": order.job_id,
            "FABRIC_ATTEMPT": str(order.attempt),
            "FABRIC_PROGRESS": str(self._home / "progress"),
            "FABRIC_CHECKPOINT_DIR": str(self._checkpoint_dir),
        }
        shared = {name: value for name, value in order.env.items() if name not in KEPT_BY_RAY}
        asked: dict[str, Any] = dict(how.runtime_env)
        grace = {"RAY_JOB_STOP_WAIT_TIME_S": str(math.ceil(how.grace_s))}
        variables = {**dict(asked.pop("env_vars", None) or {}), **how.env, **shared, **ours, **grace}
        secrets = self._home / "env"
        secrets.touch(mode=0o600)
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in how.secrets.items()]
        lines.append("export RAY_ENABLE_AUTO_CONNECT=1\n")  # `import fabric` would turn it off, and a driver may rely on it
        if not _OWN_PYTHON & asked.keys():
            lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n')
        secrets.write_text("".join(lines), encoding="utf-8")
        command = f". {shlex.quote(str(secrets))}; cd {shlex.quote(str(self._work))} || exit 1; {how.command}"
        with contextlib.suppress(RuntimeError):  # it is there already: this launch is a repetition
            client.submit_job(
                entrypoint=command,
                submission_id=order.attempt_name,
                runtime_env={**asked, "env_vars": variables},
                metadata=dict(order.visible),
                entrypoint_label_selector={ray_io.NODE_ID_LABEL: self._node_id},
            )
        client.get_job_status(order.attempt_name)  # raises where it was not accepted

    def _wait_until_started(self, client: JobSubmissionClient) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while client.get_job_status(self.order.attempt_name) == JobStatus.PENDING and time.monotonic() < deadline_s:
            if self._grace_s is not None:
                return
            time.sleep(0.1)

    def _watch(self, client: JobSubmissionClient) -> None:
        num_over, looked_s = 0, time.monotonic()
        while self._ending is None:
            time.sleep(WATCH_S)
            try:
                info = client.get_job_info(self.order.attempt_name)
                if info.status.is_terminal():
                    self._ending = self._ending_of(info)
                elif time.monotonic() - looked_s >= USAGE_EVERY_S and info.driver_info is not None:
                    looked_s = time.monotonic()
                    over = over_use(self.order.declared, usage(info.driver_info.id))
                    num_over = num_over + 1 if over else 0
                    if num_over >= 2:
                        self._is_over_use = over
                        self.stop(self.order.how.grace_s)
            except Exception as error:  # Ray's dashboard is away; the driver is not
                _log.info("watch attempt=%s failed: %r", self.order.attempt_name, error)
        self._woken.set()

    def _ending_of(self, info: Any) -> Ending:
        code = info.driver_exit_code
        if self._is_over_use:
            return Ending("error", f"OverUse: {self._is_over_use}", code)
        if info.status == JobStatus.SUCCEEDED:
            return Ending("ok", exit_code=0)
        last = (last_lines(self._log_file) or [""])[-1].strip()
        if OOM_LINE.match(last):
            return Ending("oom", last, code)
        return Ending("error", last or str(info.message or info.status), code)

    def _stop(self) -> None:
        with contextlib.suppress(Exception):  # asked again by the next look, or it has ended
            _client().stop_job(self.order.attempt_name)


def usage(ray_job_id: str) -> dict[str, float]:
    """What a Ray job holds now, by Ray's resource names: its running tasks and actors, and its placement groups whole."""
    of_job = ("job_id", "=", ray_job_id)
    here = ray_io.address()  # left to itself it takes the latest cluster on this machine
    created = [("creator_job_id", "=", ray_job_id), ("state", "=", "CREATED")]
    groups = list_placement_groups(here, filters=created, detail=True, limit=_LIMIT)
    actors = list_actors(here, filters=[of_job, ("state", "=", "ALIVE")], detail=True, limit=_LIMIT)
    running = [of_job, ("state", "=", "RUNNING"), ("type", "=", "NORMAL_TASK")]
    tasks = list_tasks(here, filters=running, detail=True, limit=_LIMIT)
    return total_of(
        [bundle.get("unit_resources", {}) for group in groups for bundle in (group.bundles or [])],
        [one.required_resources or {} for one in (*actors, *tasks) if not one.placement_group_id],
    )


def stop_unled(led: Iterable[str], timeout_s: float = 0.0) -> list[str]:
    """Stop the fabric's Ray jobs that no host leads; the names of those attempts. Nothing where the dashboard is off, or does not come
    up within `timeout_s`."""
    known, stopped = set(led), []
    deadline_s = time.monotonic() + timeout_s
    with contextlib.suppress(RuntimeFault):
        client = _patient_client(deadline_s)
        for job in client.list_jobs():
            name = job.submission_id or ""
            if parse_attempt(name) is not None and name not in known and not job.status.is_terminal():
                client.stop_job(name)
                stopped.append(name)
    return stopped


def stop(name: str, timeout_s: float = 60.0) -> None:
    """Stop an attempt's driver and wait until it is dead; nothing happens where there is none."""
    deadline_s = time.monotonic() + timeout_s
    with contextlib.suppress(RuntimeFault, RuntimeError):  # no dashboard, no such job
        client = _client()
        client.stop_job(name)
        while not client.get_job_status(name).is_terminal() and time.monotonic() < deadline_s:
            time.sleep(0.2)


def _patient_client(deadline_s: float) -> JobSubmissionClient:
    """Raises: RuntimeFault, after the deadline (monotonic)."""
    while True:
        try:
            return _client()
        except RuntimeFault:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(1.0)


def _client() -> JobSubmissionClient:
    """Raises: RuntimeFault where Ray's dashboard, which serves the Jobs API, is off."""
    try:
        return JobSubmissionClient(ray_io.address())
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "ray-programs need Ray's dashboard: `dashboard: {enabled: true}`"
        raise RuntimeFault(f"Ray's Jobs API does not answer: {error}", code="no_jobs_api", hint=hint) from error


def _logs_of_session() -> Path:
    """Where Ray puts this node's logs: beside the output of this worker."""
    return Path("/proc/self/fd/1").readlink().parent
