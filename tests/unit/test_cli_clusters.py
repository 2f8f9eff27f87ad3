"""`fabric up FILE`, `fabric down FILE`, `fabric doctor FILE`: what is wrong is told before any machine is reached."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from fabric.cli.main import cli
from fabric.machines import local
from tests.labs import cluster_file

CONFIGS = Path(__file__).parents[2] / "cluster_configs"
OPEN = {"provider/env": {"RAY_AUTH_MODE": "disabled"}}


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path / "state"))
    for name in ("FABRIC_CONFIG", "FABRIC_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command starts another program: no ssh, and no launcher of Ray's."""

    def refuse(command: Any, *_: Any, **__: Any) -> None:
        pytest.fail(f"it runs {command!r}")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def run(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(cli, list(args), **options)


def written(tmp_path: Path, changes: dict[str, Any] | None = None) -> str:
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(cluster_file(changes)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("command", [["up"], ["down", "--yes"], ["doctor"]])
@pytest.mark.parametrize(
    ("text", "code", "in_error"),
    [
        (None, "no_such_file", "hint: check the path"),
        ("a: b: c", "config_not_yaml", "is not YAML"),
        ("just words", "bad_cluster_file", "onprem.yaml"),
        (yaml.safe_dump(cluster_file({"auth/ssh_usr": "x"})), "bad_cluster_file", "hint: did you mean ssh_user?"),
        (yaml.safe_dump(cluster_file({"provider/enviroment": "x"})), "bad_cluster_file", "hint: did you mean environment?"),
        (yaml.safe_dump(cluster_file({"cluster_name": ".."})), "bad_cluster_file", "cluster_name"),
    ],
)
def test_a_file_that_is_wrong_ends_with_2_and_names_its_mistake(
    tmp_path: Path, command: list[str], text: str | None, code: str, in_error: str
) -> None:
    file = tmp_path / "lab.yaml"
    if text is not None:
        file.write_text(text)
    result = run(command[0], str(file), *command[1:])
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert result.stderr.startswith(f"error[{code}]: ") and in_error in result.stderr and str(file) in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "home").exists()


def test_a_cluster_that_would_be_open_is_refused(tmp_path: Path) -> None:
    result = run("up", written(tmp_path, OPEN))
    assert result.exit_code == 3 and result.stderr.startswith("error[insecure]: lab would be open")
    assert "--insecure" in result.stderr and not (tmp_path / "home").exists()


def test_a_clouds_file_without_the_token_is_refused(tmp_path: Path) -> None:
    text = (CONFIGS / "aws.yaml").read_text(encoding="utf-8").replace("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled")
    (tmp_path / "aws.yaml").write_text(text, encoding="utf-8")
    result = run("up", "aws.yaml")
    assert result.exit_code == 3 and result.stderr.startswith("error[insecure]: ")


def test_who_insists_is_warned(tmp_path: Path) -> None:
    with local.launching("lab"):  # so that it goes no further
        result = run("up", written(tmp_path, OPEN), "--insecure")
    assert result.exit_code == 3 and "error[launch_running]" in result.stderr
    assert result.stderr.startswith("WARNING: lab is INSECURE: whoever reaches its ports may run code on every machine")


def test_a_closed_cluster_is_not_warned_of_and_waits_for_no_other_launch(tmp_path: Path) -> None:
    with local.launching("lab"):
        for options in ([], ["--insecure"]):
            result = run("up", written(tmp_path), *options)
            assert result.exit_code == 3 and "error[launch_running]: another launch of lab is under way" in result.stderr
            assert "INSECURE" not in result.stderr and "lab: 3 of 4 machines start now" in result.stderr


def test_nothing_is_ended_unless_somebody_says_so(tmp_path: Path) -> None:
    result = run("down", written(tmp_path))
    assert result.exit_code == 3 and result.stderr.startswith("error[not_confirmed]: ") and "hint: --yes" in result.stderr


def test_an_ending_and_a_launch_do_not_meet(tmp_path: Path) -> None:
    with local.launching("lab"):
        result = run("down", written(tmp_path), "--yes")
    assert result.exit_code == 3 and "error[launch_running]" in result.stderr


def test_the_doctor_of_a_clouds_file_looks_at_its_flavors(tmp_path: Path) -> None:
    good = run("doctor", str(CONFIGS / "aws.yaml"), "-o", "json")
    assert good.exit_code == 0 and [check["name"] for check in json.loads(good.stdout)["checks"]] == ["cluster file"]
    config = yaml.safe_load((CONFIGS / "aws.yaml").read_text(encoding="utf-8"))
    config["available_node_types"]["hot-a100"]["labels"]["flavor"] = "a100-80gb"
    (tmp_path / "aws.yaml").write_text(yaml.safe_dump(config))
    bad = run("doctor", "aws.yaml")
    assert bad.exit_code == 1 and "node type hot-a100 is of the unknown flavor 'a100-80gb'" in bad.stdout and "cure: " in bad.stdout
