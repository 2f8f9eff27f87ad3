"""Keeps a machine's node running: `python -m fabric.machines.watchdog`. Starts Ray, and starts it again when it ended.

Whatever Ray left behind when it died is its child (it is a subreaper) and ends before the next start: two raylets never share a machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from fabric.machines.command import ray_environment, ray_start
from fabric.machines.manners import Manners
from fabric.machines.node_files import NodeFiles
from fabric.machines.spec import NodeSpec

LOOK_S = 0.1
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 30.0
STEADY_S = 60.0
"""Who ran so long starts anew without waiting."""
GRACE_S = 4.0
HOLD_TRIES = 10
ACTORS_EVERY_S = 10.0
ACTORS_TRIES = 4
"""After the first tries, which look before they act, the last one acts in any case."""
NEEDED = ("scheduler", "pool-")
"""Beginnings of the names of those actors without which no job runs."""
LOG_BYTES = 8 * 2**20
STARTED = "Ray runtime started."
_PR_SET_CHILD_SUBREAPER = 36


class Watchdog:
    """`run` returns when it was told to stop (SIGTERM)."""

    def __init__(self, files: NodeFiles, spec: NodeSpec) -> None:
        self._files, self._spec = files, spec
        self._restarts = _restarts_before(files)
        self._was_stopped = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        _adopt_orphans()
        backoff_s = FIRST_BACKOFF_S
        while not self._is_stopping():
            started_s = time.monotonic()
            self._files.write_status("starting", self._spec, self._restarts)
            self._watch(self._start())
            _end_children()
            if self._is_stopping():
                break
            lived_s = time.monotonic() - started_s
            backoff_s = FIRST_BACKOFF_S if lived_s > STEADY_S else min(backoff_s * 2, LONGEST_BACKOFF_S)
            self._files.write_status("down", self._spec, self._restarts, detail=self._files.tail())
            _say(f"Ray ended after {lived_s:.0f} s; started again in {backoff_s:.1f} s")
            self._pause(backoff_s)
            self._restarts += 1
        self._files.write_status("stopped", self._spec, self._restarts)

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path.home())
        _cap(self._files.ray_log)
        with self._files.ray_log.open("ab") as log:
            self._log_from = log.tell()
            return subprocess.Popen(
                ray_start(self._spec, home),
                env={**_without_ray(os.environ), **ray_environment(self._spec, home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
                start_new_session=True,
            )

    def _watch(self, ray: subprocess.Popen[bytes]) -> None:
        is_up = False
        manners = Manners()
        while ray.poll() is None and not self._is_stopping():
            manners.look()
            if not is_up and self._has_started():
                is_up = True
                self._files.write_status("up", self._spec, self._restarts)
                if self._spec.kind == "head" and self._restarts:
                    threading.Thread(target=self._see_to_actors, name="actors", daemon=True).start()
            time.sleep(LOOK_S)
        manners.end()
        if ray.poll() is None:
            ray.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                ray.wait(GRACE_S)

    def _see_to_actors(self) -> None:
        """Ray brings the fabric's actors back, and scheduler and pools make up for what Ray has lost of the others. What is lost of
        these, nobody might start, and no job runs without them."""
        address = f"{self._spec.head}:{self._spec.ports.gcs}"
        for number in range(ACTORS_TRIES):
            asked = self._run("python", "-m", "fabric.stranded", address) if number < ACTORS_TRIES - 1 else None
            if asked is not None and asked.returncode == 0 and not any(name.startswith(NEEDED) for name in asked.stdout.split()):
                time.sleep(ACTORS_EVERY_S)
                continue
            done = self._run("fabric", "up", "--address", address)
            _say(f"fabric up ended with {done.returncode}: {done.stderr.strip()[-300:]}")
            if done.returncode == 0:
                return
            time.sleep(ACTORS_EVERY_S)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(self._files.root.parent / "run"), *command], capture_output=True, text=True, check=False)

    def _has_started(self) -> bool:
        with self._files.ray_log.open("rb") as log:
            log.seek(self._log_from)
            return STARTED.encode() in log.read()

    def _pause(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while not self._is_stopping() and time.monotonic() < until_s:
            time.sleep(LOOK_S)

    def _is_stopping(self) -> bool:
        return self._was_stopped

    def _stop(self, *_: object) -> None:
        self._was_stopped = True  # from a signal handler: no lock may be taken here


def _restarts_before(files: NodeFiles) -> int:
    """0 for the first start of a launch. A watchdog that died, and a machine that booted, have others behind them."""
    known = files.read_status()
    return 0 if known is None or (known.state == "starting" and known.restarts == 0) else known.restarts + 1


def _without_ray(environ: Mapping[str, str]) -> dict[str, str]:
    """What whoever launched had set of Ray's is not this node's: `ray up` exports labels and resources of its own, say."""
    return {name: value for name, value in environ.items() if not name.startswith("RAY_")}


def _adopt_orphans() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_children() -> None:
    """Kill what is left, deepest first, and take in its exit statuses."""
    for _ in range(20):
        left = psutil.Process().children(recursive=True)
        for child in left:
            with contextlib.suppress(psutil.Error):
                child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        time.sleep(0.05)


def _cap(log: Path) -> None:
    """Keep one earlier log where this one grew large."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {what}\n")
    sys.stderr.flush()


def main() -> None:
    files = NodeFiles()
    files.prepare()
    for _ in range(HOLD_TRIES):  # whoever asks for the watchdog takes its lock for a moment
        with contextlib.suppress(OSError):
            files.hold()
            break
        time.sleep(LOOK_S)
    else:
        sys.exit("another watchdog runs here")
    Watchdog(files, files.read_spec()).run()


if __name__ == "__main__":
    main()
