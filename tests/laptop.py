"""The launching machine of a test: a home of its own, from which `fabric` and `ray` are run as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.machines import ROOT

BIN = Path(sys.executable).parent


class Laptop:
    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIC_", "RAY_"))}
        return {**kept, "HOME": str(self.home), "RAY_AUTH_MODE": "token", "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str, timeout_s: float = 170.0) -> subprocess.CompletedProcess[str]:
        """A command to its end, whatever that is."""
        return subprocess.run(
            words,
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
