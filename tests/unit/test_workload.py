from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.errors import ConfigError, UnknownNameError
from fabric.workload import read_workload
from pools.flavors import load_catalogue

CATALOGUE = load_catalogue()
DOCUMENT = """
services:
  bert:
    domain: nlp
    requests_per_s: 1500
    measured: {a100-80g: {single_ms: 1.72, items_per_s: 3552}, a10: {single_ms: 2.87, items_per_s: 1073}}
  new: {domain: cv, requests_per_s: 5}
training:
  resnet: {domain: cv, work_per_s: 5, measured: {v100: 4.4, k80: 0.62}}
units: {a100-80g: 1, t4: 1, v100: 1, k80: 1}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "workload.yaml"
    path.write_text(DOCUMENT, encoding="utf-8")
    return path


def test_a_workload_is_read_with_its_units(file: Path) -> None:
    workload = read_workload(file, CATALOGUE)
    assert [one.name for one in workload.services] == ["bert", "new"]
    assert workload.services[0].times["a10"].of(1) == pytest.approx(2.87e-3)
    assert workload.loads[0].rates == {"v100": 4.4, "k80": 0.62}
    assert workload.units == {"a100-80g": 1, "t4": 1, "v100": 1, "k80": 1}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("services: {a: {requests_per_s: -1}}", "bad_workload", "services.a.requests_per_s"),
        ("services: {a: {requests_per_s: 1, measured: {a10: {single_ms: 0, items_per_s: 1}}}}", "bad_workload", "single_ms"),
        ("services: {a: {requests: 1}}", "bad_workload", "services.a"),
        ("training: {a: {work_per_s: .inf}}", "bad_workload", "work_per_s"),
        ("units: {a10: -1}", "bad_workload", "units.a10"),
        ("{services: {a: {requests_per_s: 1}}, training: {a: {work_per_s: 1}}}", "bad_workload", "'a'"),
        ("a: [", "bad_workload", "YAML"),
        ("[]", "bad_workload", "the document"),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, code: str, words: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as caught:
        read_workload(file, CATALOGUE)
    assert caught.value.code == code
    assert caught.value.hint


def test_an_unknown_flavor_and_a_missing_file_are_named(file: Path, tmp_path: Path) -> None:
    file.write_text("units: {a100-80gb: 1}", encoding="utf-8")
    with pytest.raises(UnknownNameError, match="a100-80gb"):
        read_workload(file, CATALOGUE)
    with pytest.raises(ConfigError, match="no workload"):
        read_workload(tmp_path / "none.yaml", CATALOGUE)


def test_the_command_answers_without_a_fabric(file: Path) -> None:
    ran = CliRunner().invoke(cli, ["tiers", "--for", str(file), "-o", "json"], standalone_mode=True)
    assert ran.exit_code == 0, ran.output
    answer = json.loads(ran.output)
    places = {row["service"]: row["flavor"] for row in answer["services"]}
    assert places == {"bert": "a100-80g", "new": "t4"}
    assert 1.72 < next(row["p95_ms"] for row in answer["services"] if row["service"] == "bert") < 50
    assert answer["by_prior"] == ["new"]
    busy = {row["flavor"]: row["busy_units"] for row in answer["training"]}
    assert busy["v100"] == pytest.approx(1.0)
    assert busy["k80"] == pytest.approx(0.6 / 0.62, rel=1e-3)
    shown = CliRunner().invoke(cli, ["tiers", "--for", str(file)]).output
    assert "1 x a100-80g (hot)" in shown
    assert "new: nothing is measured; placed by its domain" in shown
