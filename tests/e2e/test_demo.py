"""The demo as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def demo(cwd: Path, *args: str) -> dict[str, Any]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "examples.demo", *args]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "twin" in done.stdout
    result: dict[str, Any] = json.loads((cwd / "build" / "demo.json").read_text())
    return result


@pytest.mark.timeout(180)
def test_the_demo_runs_its_whole_load_without_an_error(tmp_path: Path) -> None:
    result = demo(tmp_path)
    assert result["images"] >= 1700
    assert result["texts"] >= 2000
    assert result["errors"] == 0
    assert result["cv_accuracy"] >= 0.95
    assert result["nlp_accuracy"] >= 0.75
    assert set(result["by_tier"]) == {"hot", "warm", "cold"}
    assert sum(tier["tasks"] for tier in result["by_tier"].values()) >= 190
    assert all(tier.keys() == {"tasks", "p50_ms", "cost_usd"} for tier in result["by_tier"].values())
    assert result["http_ok"] is True
    assert result["twin"] is True


def test_a_folder_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "examples.demo", "--images", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "error[bad_data_folder]" in done.stderr
    assert "hint:" in done.stderr
