"""One rank of an attempt on this machine: its directory, environment, process, output, progress and checkpoint.

`<scratch>/<job>.<attempt>/<rank>/` holds `work` (where it runs), `log`, `progress`, `result`. Invariants: a fresh
directory per attempt; secrets reach the environment only; what the rank started is dead when it has ended.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from fabric.running import checkpoints
from fabric.running.child import OOM_EXIT, OOM_NAMES, Call
from fabric.running.gpu_use import GpuWatch
from fabric.running.log_ship import LogShipper, last_lines
from fabric.running.order import Ending, Order, RankUse, log_key, result_key
from fabric.running.process import Process, num_oom_kills
from fabric.running.progress_file import Progress, ProgressFile
from fabric.running.stores import RunStore

FIRST_LOOK_S = 0.05
WATCH_S = 0.25
_OF_RAYS_WORKER = re.compile(
    r"^(RAY_JOB_ID|RAY_RAYLET_PID|RAY_JOB_CONFIG_JSON_ENV_VAR|RAY_CLIENT_MODE|RAY_WORKER_.*|RAY_NODE_ID|RAY_ENABLE_AUTO_CONNECT)$"
)
OOM_LINE = re.compile(rf"^(?:[\w.]+\.)?(?:{'|'.join(OOM_NAMES)})\b")


class LocalRank:
    """`start_call` runs a call in a warm child; `woken` is set when the process has ended; `node_id` is where this is."""

    def __init__(self, order: Order, store: RunStore, start_call: Callable[[Call], Process], node_id: str, woken: threading.Event) -> None:
        self.order = order
        self._store = store
        self._start_call = start_call
        self._node_id = node_id
        self._woken = woken
        self._home = Path(order.scratch) / order.attempt_name / str(order.rank)
        self._work = self._home / "work"
        self._log = self._home / "log"
        self._result = self._home / "result"
        self._checkpoint_dir = self._work / (order.how.checkpoint_dir or "checkpoints")
        self._process: Process | None = None
        self._shipper: LogShipper | None = None
        self._progress: ProgressFile | None = None
        self._ending: Ending | None = None
        self._stop_grace_s: float | None = None
        self._used_bytes = self._peak_bytes = 0
        self._gpus = GpuWatch("")

    def begin(self) -> str:
        order, how = self.order, self.order.how
        shutil.rmtree(self._home, ignore_errors=True)
        self._work.mkdir(parents=True, mode=0o700)
        if how.working_dir:
            self._store.unpack(how.working_dir, self._work)
        self._checkpoint_dir.mkdir(parents=True, exist_ok=True)
        kept = checkpoints.restore(self._store, order.job_id, self._checkpoint_dir) if order.attempt > 1 else None
        self._progress = ProgressFile(self._home / "progress", self._checkpoint_dir, kept)
        self._log.touch(mode=0o600)
        self._num_oom_kills = num_oom_kills()
        self._process = self._start()
        self._cpu_before_s = self._process.cpu_s()  # a warm child has done its imports before the call
        self._shipper = LogShipper(self._log, partial(self._store.append, log_key(order.job_id, order.attempt, order.rank)))
        threading.Thread(target=self._watch, args=(self._process,), name=f"rank-{order.rank}", daemon=True).start()
        if self._stop_grace_s is not None:  # it was told to leave while it was prepared
            self._process.terminate(self._stop_grace_s)
        return self._node_id

    def poll(self) -> Ending | None:
        return self._ending

    def stop(self, grace_s: float) -> None:
        self._stop_grace_s = grace_s
        if self._process is not None and self._ending is None:
            self._process.terminate(grace_s)

    def progress(self) -> Progress | None:
        return self._progress.read() if self._progress is not None else None

    def keep(self) -> bool:
        return checkpoints.keep(self._store, self.order.job_id, self.order.attempt, self.order.rank, self._checkpoint_dir)

    def close(self) -> None:
        if self._shipper is not None:
            self._shipper.close()
        shutil.rmtree(self._home, ignore_errors=True)
        with suppress(OSError):  # other ranks are there yet, or the last two of them leave together
            self._home.parent.rmdir()

    def _start(self) -> Process:
        order, how = self.order, self.order.how
        env = environment(order, os.environ, self._home / "progress", self._checkpoint_dir)
        self._gpus = GpuWatch(env.get("CUDA_VISIBLE_DEVICES", ""))
        if order.form == "callable":
            payload = str(self._store.localise(how.payload))
            return self._start_call(Call(str(self._work), str(self._log), payload, str(self._result), env))
        with self._log.open("ab") as log:
            return Process(["/bin/sh", "-c", how.command], cwd=self._work, env=env, output=log)

    def _watch(self, process: Process) -> None:
        code = process.wait(FIRST_LOOK_S)
        while code is None:
            used = process.memory_bytes()
            self._peak_bytes = max(self._peak_bytes, used)
            self._gpus.look(time.monotonic())
            if 0 < self.order.memory_bytes < used:
                self._used_bytes = used
                process.kill()
            code = process.wait(WATCH_S)
        try:
            ending = self._ending_of(code)
        except Exception as error:  # the store refused the result: the job has not succeeded
            ending = Ending("error", f"its result could not be stored: {error}", code)
        self._ending = dataclasses.replace(ending, use=self._use_of(process))
        self._woken.set()

    def _use_of(self, process: Process) -> RankUse | None:
        """The kernel's own sums, and of memory the larger of what was seen of all processes together and of the largest alone."""
        used, gpus = process.used, self._gpus
        if used is None:
            return None
        cpu_s = max(0.0, used.cpu_s - self._cpu_before_s)
        peak_bytes = max(self._peak_bytes, used.peak_memory_bytes)
        return RankUse(cpu_s, peak_bytes, gpus.seen_s, gpus.busy_s, gpus.memory_bytes, gpus.peak_memory_bytes)

    def _ending_of(self, code: int) -> Ending:
        if self._used_bytes:
            limit = self.order.memory_bytes / 2**20
            return Ending("oom", f"it used {self._used_bytes / 2**20:.0f} MiB of the {limit:.0f} MiB that it had asked for", code)
        is_call = self.order.form == "callable"
        if is_call and self.order.rank == 0 and self._result.exists():
            self._store.upload(self._result, result_key(self.order.job_id))
        if code == 0:
            if is_call and not self._result.exists():
                return Ending("error", "it ended without a result", code)
            return Ending("ok", exit_code=0)
        last = (last_lines(self._log) or [""])[-1].strip()
        if (is_call and code == OOM_EXIT) or OOM_LINE.match(last):
            return Ending("oom", last, code)
        if code == 128 + signal.SIGKILL and num_oom_kills() > self._num_oom_kills:
            return Ending("oom", "the kernel killed it for memory", code)
        return Ending("error", _how_it_ended(code, last), code)


def environment(order: Order, base: Mapping[str, str], progress_file: Path, checkpoint_dir: Path) -> dict[str, str]:
    """What the rank's process sees: this host's own environment, the user's, then the fabric's on top."""
    env = {name: value for name, value in base.items() if not _OF_RAYS_WORKER.match(name)}
    env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath)))
    env["PYTHONUNBUFFERED"] = "1"
    env.update(order.how.env)
    env.update(order.how.secrets)
    env.update(order.env)
    env.update(
        RANK=str(order.rank),
        LOCAL_RANK=str(order.local_rank),
        WORLD_SIZE=str(order.world_size),
        FABRIC_JOB_ID=order.job_id,
        FABRIC_ATTEMPT=str(order.attempt),
        FABRIC_PROGRESS=str(progress_file),
        FABRIC_CHECKPOINT_DIR=str(checkpoint_dir),
    )
    return env


def _how_it_ended(code: int, last_line: str) -> str:
    if code > 128:
        try:
            return f"ended by {signal.Signals(code - 128).name}" + (f": {last_line}" if last_line else "")
        except ValueError:
            pass
    return f"exit code {code}" + (f": {last_line}" if last_line else "")
