"""What-ifs: one at a time, each in a process of its own that gives way to everything else. Results are kept for a while, in memory.

The scheduler only starts the process, reads its lines, and ends it when its time is over or this one ends.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from fabric import codec
from fabric.errors import RejectedError, RuntimeFault, UnknownNameError
from fabric.plane.plane import JobPlane
from fabric.policy_document import read_policy
from fabric.what_if_form import WHAT_IF_KEYS

COMMAND = (sys.executable, "-m", "fabric.sim.what_if_process")
LIMIT_S = 600.0
MEMORY_BYTES = 2 * 2**30
MOST_JOBS = 5_000
MOST_KEPT = 20
RETRY_S = 5.0
CANCEL_S = 5.0
"""How long a cancelled one is waited for: its process is killed."""
_log = logging.getLogger(__name__)


class WhatIfs:
    """See `fabric.api.what_if_port.WhatIfPort`."""

    def __init__(self, plane: JobPlane, journal_url: str, *, now_s: Callable[[], float] = time.time, limit_s: float = LIMIT_S) -> None:
        self._plane = plane
        self._journal_url = journal_url
        self._now_s = now_s
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._forms: dict[str, dict[str, Any]] = {}
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = ""
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def begin(self, document: str | Mapping[str, Any], since_s: float, by: str) -> str:
        asked = self._asked(document, since_s)
        with self._lock:
            if self._is_closed:
                raise RuntimeFault("the scheduler is closed", code="closed")
            if any(form["state"] == "running" for form in self._forms.values()):
                hint = "ask again when it is done"
                raise RejectedError("another what-if is running", code="busy", hint=hint, retryable=True, retry_after_s=RETRY_S)
            for old in list(self._forms)[: -MOST_KEPT + 1]:
                del self._forms[old]
            what_if_id = uuid.uuid4().hex
            form = dict.fromkeys(WHAT_IF_KEYS) | {"id": what_if_id, "state": "running", "progress": 0.0, "since_s": since_s, "by": by}
            form["began_s"] = self._now_s()
            self._forms[what_if_id] = form
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=self._run, args=(form, asked), name="what-if", daemon=True))
            self._threads[-1].start()
        return what_if_id

    def shown(self, what_if_id: str) -> Mapping[str, Any]:
        with self._lock:
            form = self._forms.get(what_if_id)
            if form is None:
                hint = f"the last {MOST_KEPT} are kept while the scheduler lives; ask again"
                raise UnknownNameError(f"unknown what-if {what_if_id!r}", code="unknown_what_if", hint=hint, name=what_if_id)
            return dict(form)

    def cancel(self, what_if_id: str) -> Mapping[str, Any]:
        with self._lock:
            form = self._forms.get(what_if_id)
            thread = self._threads[-1] if form is not None and form["state"] == "running" else None  # one runs at a time
            if thread is not None:
                self._cancelled = what_if_id
                if self._process is not None:
                    self._process.kill()
        if thread is not None:
            thread.join(CANCEL_S)
        return self.shown(what_if_id)

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            self._is_closed, process = True, self._process
        if process is not None:
            process.kill()
        for thread in self._threads:
            thread.join()

    # ---- inside

    def _asked(self, document: str | Mapping[str, Any], since_s: float) -> dict[str, Any]:
        """What the process is told. Raises: as `read_policy`."""
        plane = self._plane
        with plane.driver.lock:
            current = plane.core.book.policy
        proposed = read_policy(document, catalogue=plane.catalogue, version=current.version + 1)
        return {
            "journal_url": self._journal_url,
            "since_s": since_s,
            "most_jobs": MOST_JOBS,
            "memory_bytes": MEMORY_BYTES,
            "catalogue": {name: codec.encode(flavor) for name, flavor in plane.catalogue.items()},
            "nodes": [codec.encode(node) for node in plane.nodes.values()],
            "current": codec.encode(current),
            "proposed": codec.encode(proposed),
        }

    def _run(self, form: dict[str, Any], asked: Mapping[str, Any]) -> None:
        began_s = time.monotonic()
        try:
            told = self._told_by_process(form, asked, began_s)
        except Exception as error:  # the thread's end must leave the form final
            _log.exception("what-if failed")
            told = {"error": _error("what_if_failed", f"{type(error).__name__}: {error}", "its log says why")}
        with self._lock:
            form["took_s"] = time.monotonic() - began_s
            if "answer" in told:
                form.update(told["answer"], state="done", progress=1.0)
            else:
                form.update(state="failed", progress=None, error=told["error"])
            _log.info("what-if id=%s state=%s took_s=%.1f by=%s", form["id"], form["state"], form["took_s"], form["by"])

    def _told_by_process(self, form: dict[str, Any], asked: Mapping[str, Any], began_s: float) -> Mapping[str, Any]:
        """Its last line, or why there is none."""
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # one processor is enough, and their memory counts
        process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **alone})
        with self._lock:
            self._process = process
            if self._is_closed or form["id"] == self._cancelled:
                process.kill()
        timer = threading.Timer(self._limit_s, process.kill)
        timer.daemon = True
        timer.start()
        last: Mapping[str, Any] = {}
        try:
            assert process.stdin is not None and process.stdout is not None
            with suppress(BrokenPipeError):  # it has died already: its status tells
                process.stdin.write(json.dumps(asked) + "\n")
                process.stdin.flush()
            for line in process.stdout:
                last = json.loads(line)
                if "progress" in last:
                    with self._lock:
                        form["progress"] = last["progress"]
                else:
                    break
        finally:
            timer.cancel()
            process.kill()
            status = process.wait()
            with self._lock:
                self._process = None
        return last if "answer" in last or "error" in last else {"error": self._end_of(form, status, time.monotonic() - began_s)}

    def _end_of(self, form: Mapping[str, Any], status: int, took_s: float) -> dict[str, Any]:
        if form["id"] == self._cancelled:
            return _error("cancelled", "it was cancelled", "ask again")
        if self._is_closed:
            return _error("closed", "the scheduler ended", "ask again")
        if took_s >= self._limit_s:
            return _error("timeout", f"it took longer than {self._limit_s:g} s", "ask for a shorter time")
        return _error("what_if_failed", f"its process ended with status {status}", "the scheduler's log says why; a shorter time may do")


def _error(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": hint}
