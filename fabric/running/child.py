"""A warm child: a Python process with its imports done, that waits for one pickled call, runs it and ends.

`python -m fabric.running.child FD`: one line of JSON on the pipe FD says what to run. Invariants: Ray is not imported;
the result file is whole or absent; it holds a pickled (is_ok, value or exception).
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from fabric.errors import RuntimeFault
from fabric.payload import unpack_callable

OOM_EXIT = 86
"""The exit code of a call that ended with MemoryError or a device's like of it."""
OOM_NAMES = ("MemoryError", "OutOfMemoryError", "ResourceExhaustedError", "_ArrayMemoryError", "OutOfMemory")


@dataclass(frozen=True, slots=True)
class Call:
    """What the child is told. `env` replaces its environment; `log` takes standard output and error; `payload` is the
    file of the pickled (function, args, kwargs); `result` the file to write."""

    cwd: str
    log: str
    payload: str
    result: str
    env: dict[str, str]

    def as_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def main(fd: int) -> int:
    with os.fdopen(fd, "rb") as pipe:
        line = pipe.readline()
    if not line.endswith(b"\n"):
        return 0  # the parent went away
    call = Call(**json.loads(line))
    _settle_in(call)
    code = 1
    try:
        outcome: tuple[bool, Any] = (True, _run(call))
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        outcome = (not code, RuntimeFault(f"sys.exit({error.code!r})", code="exited") if code else None)
    except BaseException as error:  # whatever the user's code raises is its result
        traceback.print_exception(_without_own_frames(error))
        code = OOM_EXIT if is_oom(error) else 1
        outcome = (False, error)
    if not _write(Path(call.result), outcome):
        code = code or 1
    return code


def is_oom(error: BaseException) -> bool:
    """MemoryError, torch.OutOfMemoryError and their like, told by name."""
    return any(kind.__name__ in OOM_NAMES for kind in type(error).__mro__)


def _settle_in(call: Call) -> None:
    log = os.open(call.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(call.env)
    os.chdir(call.cwd)
    paths = [call.cwd, *filter(None, call.env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:0] = [path for path in paths if path not in sys.path]


def _run(call: Call) -> Any:
    fn, args, kwargs = unpack_callable(Path(call.payload).read_bytes())
    return fn(*args, **kwargs)


def _without_own_frames(error: BaseException) -> BaseException:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return error.with_traceback(frames) if frames is not None else error


def _write(file: Path, outcome: tuple[bool, Any]) -> bool:
    """Whether the result itself could be written; what cannot be pickled becomes an error that says so."""
    is_whole = True
    try:
        body = cloudpickle.dumps(outcome)
        if not outcome[0]:
            pickle.loads(body)  # an exception with an __init__ of its own may pickle and not come back
    except Exception as error:
        is_whole = not outcome[0]
        what = f"the result cannot be pickled: {error}" if outcome[0] else _line_of(outcome[1])
        sys.stderr.write(what + "\n")
        body = pickle.dumps((False, RuntimeFault(what, code="not_picklable" if outcome[0] else "job_error")))
    partial = file.with_suffix(".partial")
    partial.write_bytes(body)
    partial.replace(file)
    return is_whole


def _line_of(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(type(error), error)).strip()


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)  # the interpreter's own clearing up would only cost time
