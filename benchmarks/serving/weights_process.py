"""The workers of `weights.py`: started, told to run all at once, measured in `/proc`, ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_WORKER = Path(__file__).with_name("weights_worker.py")
_ROOT = Path(__file__).parents[2]


class Workers:
    """`num` processes of one form. A context manager that ends them."""

    def __init__(self, form: str, num: int, model: Path, cache: Path) -> None:
        argv = [sys.executable, str(_WORKER), form, str(model), str(cache)]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        self._processes = [
            subprocess.Popen(argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(num)
        ]
        for process in self._processes:
            if self._read(process).strip() != "ready":
                raise SystemExit(f"a worker ({form}) did not start")

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_exc: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def rows_per_s(self, batch: int, seconds: float) -> float:
        """Of all workers together, running at once."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{batch} {seconds}\n")
            process.stdin.flush()
        return sum(float(self._read(process)) for process in self._processes)

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()


def pss_bytes(pids: Iterable[int]) -> int:
    """The proportional set size of these processes together. Source: proc_pid_smaps_rollup(5)."""
    total_kb = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        total_kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 1024 * total_kb
