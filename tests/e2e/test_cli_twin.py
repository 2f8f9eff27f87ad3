"""The command line against a real twin, as a user at a shell: up, look, cordon, drain, down; and a program beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FABRIC = (sys.executable, "-m", "fabric.cli.main")
CALLER = """
import sys
import fabric, ray

@fabric.task(name="gpu-only", flavor="a100-80g", num_gpus=1)
def gpu_only(x):
    return x

fabric.connect()
print("ready", flush=True)
for _ in sys.stdin:
    try:
        ref = gpu_only.remote(1)
        ray.get(ref, timeout=30)
        print("ran", ref.task_id().hex(), flush=True)
    except fabric.FabricError as error:
        print(error.code, flush=True)
"""


class Shell:
    """Runs `fabric …` with a state directory of its own."""

    def __init__(self, state_dir: Path) -> None:
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIC_", "RAY_"))}
        self.env |= {"FABRIC_STATE_DIR": str(state_dir)}
        self.cwd = state_dir

    def __call__(self, *args: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [*FABRIC, *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=self.env, cwd=self.cwd)
        assert done.returncode == status, f"fabric {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *args: str, status: int = 0) -> Any:
        return json.loads(self(*args, "-o", "json", status=status).stdout)


class Caller:
    """A program that uses the fabric all the while, one call for each line that it reads."""

    def __init__(self, shell: Shell) -> None:
        script = shell.cwd / "caller.py"
        script.write_text(CALLER, encoding="utf-8")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, script], stdin=pipe, stdout=pipe, text=True, env=shell.env, cwd=shell.cwd)
        assert self._line() == "ready"

    def call(self) -> str:
        """`ran <call id>`, or the code of the error."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def until(holds: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


def num_nodes(shell: Shell) -> dict[str, list[int]]:
    """Tier -> how many ready nodes each of its flavors has; a flavor is listed while any node of it is there."""
    return {tier["tier"]: [flavor["nodes"] for flavor in tier["flavors"]] for tier in shell.json("tiers")["tiers"]}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("state"))
    yield shell
    shell("down")


@pytest.fixture(scope="module")
def twin(shell: Shell) -> str:
    """The address of a twin that `fabric up` started."""
    done = shell("up", "--no-dashboard")
    steps = [line.split("  ")[0] for line in done.stderr.splitlines()]
    assert {"head", "nodes 3/3", "actors 5/5"} <= set(steps), done.stderr
    assert "a100-80g twin ×1" in done.stdout and "export RAY_AUTH_MODE=token" in done.stdout
    return str(json.loads((shell.cwd / "twin.json").read_text())["address"])


@pytest.fixture(scope="module")
def caller(shell: Shell, twin: str) -> Iterator[Caller]:
    caller = Caller(shell)
    yield caller
    caller.end()


@pytest.fixture(scope="module")
def node_ids(shell: Shell, twin: str) -> dict[str, str]:
    """Tier -> node id, from a status that is checked here as well."""
    status = shell.json("status")
    assert set(status) == {"name", "address", "tiers", "unlabelled", "stragglers", "totals", "shipping", "console"}
    assert (status["address"], status["unlabelled"]) == (twin, [])
    assert [tier["tier"] for tier in status["tiers"]] == ["hot", "warm", "cold"]
    assert {key: status["totals"][key] for key in ("nodes", "ready", "twins")} == {"nodes": 3, "ready": 3, "twins": 3}
    hot = status["tiers"][0]["nodes"][0]
    assert hot["twin"] and hot["accelerator"] == "GPU" and hot["resources"]["GPU"]["total"] == 1.0
    return {tier["tier"]: tier["nodes"][0]["node_id"] for tier in status["tiers"]}


def test_a_second_up_changes_nothing(shell: Shell, twin: str) -> None:
    before = (shell.cwd / "twin.json").read_text()
    assert shell("up").stdout.startswith(f"already up at {twin}")
    assert (shell.cwd / "twin.json").read_text() == before


def test_a_cordoned_node_gets_no_new_call_until_it_is_uncordoned(shell: Shell, node_ids: dict[str, str], caller: Caller) -> None:
    hot = node_ids["hot"][:8]
    assert caller.call().startswith("ran ")
    assert "cordoned" in shell("node", "cordon", hot).stdout
    assert until(lambda: caller.call() == "no_fit")
    assert "cordoned already" in shell("node", "cordon", hot).stdout
    assert "ready" in shell("node", "uncordon", hot).stdout
    assert until(lambda: caller.call().startswith("ran "))


def test_a_node_that_nobody_knows_is_an_error_and_the_head_stays(shell: Shell, node_ids: dict[str, str]) -> None:
    near = node_ids["hot"][:7] + "x"
    assert shell("node", "cordon", near, status=2).stderr.splitlines()[0] == f"error[unknown_node]: unknown node '{near}'"
    assert shell("node", "drain", node_ids["cold"], "--yes", status=3).stderr.startswith("error[head_node]: ")


def test_explain_knows_tasks_and_calls(shell: Shell, node_ids: dict[str, str], caller: Caller) -> None:
    call_id = caller.call().removeprefix("ran ")
    ask = [*FABRIC, "explain", call_id]
    told = until(lambda: subprocess.run(ask, capture_output=True, check=False, env=shell.env, cwd=shell.cwd).returncode == 0)
    assert told, "a worker tells of its calls in batches"
    call = shell.json("explain", call_id)
    assert (call["task"], call["measured"]["flavor"], call["measured"]["tier"]) == ("gpu-only", "a100-80g", "hot")
    assert call["measured"]["node_id"] == node_ids["hot"] and call["route"]["reason"] == "OnlyFit"
    task = shell.json("explain", "gpu-only")
    (size,) = task["versions"][0]["sizes"]
    assert (size["bucket"], size["max_bytes"], size["route"]["flavor"], size["problem"]) == (0, 256, "a100-80g", None)
    assert shell("explain", "gpu-onyl", status=2).stderr.endswith("hint: did you mean gpu-only?\n")
    assert "gpu-only" in shell("explain").stdout


def test_profile_shows_what_the_fabric_has_measured_of_a_task_and_runs_a_callable_beside_it(shell: Shell, caller: Caller) -> None:
    assert caller.call().startswith("ran ")
    assert until(lambda: any(row["runs"] for row in shell.json("profile", "gpu-only")["flavors"]))
    row = next(row for row in shell.json("profile", "gpu-only")["flavors"] if row["runs"])
    assert (row["flavor"], row["source"], row["twin"]) == ("a100-80g", "measured", True)
    (shell.cwd / "mine.py").write_text(
        "import fabric\n\n@fabric.task(name='gpu-only', flavor='gpu', num_gpus=1)\ndef mine(x):\n    return x\n"
    )
    form = shell.json("profile", "mine:mine", "--args", "[1]")
    measured = {row["flavor"]: row["note"] for row in form["flavors"] if row["source"] == "measured"}
    assert measured == {"a100-80g": "on a twin", form["measured"]["flavor"]: "here"}
    assert shell("profile", "gpu-onyl", status=2).stderr.endswith("hint: did you mean gpu-only?\n")


def test_profiles_are_exported_forgotten_and_imported(shell: Shell, caller: Caller) -> None:
    def runs() -> int:
        return sum(task["runs"] for task in shell.json("explain")["tasks"] if task["task"] == "gpu-only")

    caller.call()
    time.sleep(3.0)  # the worker reports, the profiler learns
    before = runs()
    assert before > 0
    assert shell.json("profiles", "export", "lab.parquet")["tasks"] >= 1
    assert shell.json("profiles", "forget", "gpu-only") == {"task": "gpu-only", "versions": 1}
    assert runs() == 0
    assert shell.json("profiles", "import", "lab.parquet")["rows_taken"] >= 1
    assert runs() == before
    assert shell.json("profiles", "import", "lab.parquet")["rows_taken"] == 0
    (shell.cwd / "no.parquet").write_bytes(b"nothing of the kind")
    assert "error[profile_file]" in shell("profiles", "import", "no.parquet", status=2).stderr
    assert "error[unknown_task]" in shell("profiles", "forget", "nobody", status=2).stderr


def test_doctor_finds_the_twin_in_order(shell: Shell, twin: str) -> None:
    report = shell.json("doctor")
    cluster = {check["name"]: check["state"] for check in report["checks"] if check["where"] == "cluster"}
    cluster.pop("agents", None)  # they may not have measured yet
    assert set(cluster.values()) == {"ok"} and {"authentication", "versions", "clocks", "actors"} <= set(cluster)


def test_a_drained_node_leaves(shell: Shell, node_ids: dict[str, str], caller: Caller) -> None:
    assert "draining" in shell("node", "drain", node_ids["hot"][:8], "--deadline", "20s", "--yes").stdout
    assert until(lambda: caller.call() == "no_fit")

    def tiers() -> dict[str, list[int]]:
        return {tier["tier"]: [flavor["nodes"] for flavor in tier["flavors"]] for tier in shell.json("tiers")["tiers"]}

    assert until(lambda: tiers() == {"hot": [], "warm": [1], "cold": [1]}, within_s=60)


def test_down_ends_the_twin_and_then_there_is_none(shell: Shell, twin: str) -> None:
    assert shell("down").stdout.startswith("down, in ")
    assert shell("down").stdout.startswith("no twin runs here")
    assert shell("status", status=4).stderr.startswith("error[unavailable]: ")
