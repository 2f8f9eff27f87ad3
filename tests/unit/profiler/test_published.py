"""Published tables as profiles: read whole, named so that a fabric learns from them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from statistics import fmean

import pytest
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.cli.profiles import _read
from fabric.errors import ConfigError
from fabric.types import Fingerprint, Resources, Run, Variant
from pools.flavors import load_catalogue
from profiler.estimate import Estimator
from profiler.sharing import shared_forecasts

CATALOGUE = load_catalogue()
GPU = Variant("gpu", "gpu", Resources(num_gpus=1), "aa")
GAVEL = {
    device: {f"('ResNet-18 (batch size {size})', 1)": {"null": rate / size} for size in (16, 64, 256)} | {"('LM', 2)": {"null": 0.0}}
    for device, rate in (("v100", 400.0), ("p100", 180.0), ("unheard-of", 1.0))
}
MLPERF = "division,accelerator,accelerators_per_node,nodes,model,scenario,samples_per_s\nclosed,NVIDIA T4,2,1,resnet50,Offline,{}\n"


def test_a_gavel_table_becomes_a_profile_for_each_job_type(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(json.dumps(GAVEL), encoding="utf-8")
    found = {profile.task: profile for profile in _read(tmp_path / "rates.json")}
    assert sorted(found) == ["gavel/ResNet-18@batch 16", "gavel/ResNet-18@batch 256", "gavel/ResNet-18@batch 64"]
    one = found["gavel/ResNet-18@batch 64"]
    assert (one.fingerprint.domain, one.fingerprint.phase) == ("cv", "training")
    assert {flavor: round(1 / math.exp(seen.mean), 6) for (_, _, flavor), seen in one.measured.items()} == {"v100": 6.25, "p100": 2.8125}


def test_mlperf_s_results_are_per_accelerator(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(MLPERF.format(9000), encoding="utf-8")
    [one] = _read(tmp_path / "results.csv")
    [((_, _, flavor), seen)] = one.measured.items()
    assert (one.task, flavor, round(math.exp(-seen.mean))) == ("mlperf/resnet50", "t4", 4500)


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "{"), ("a.json", '{"v100": 3}'), ("a.csv", "a,b\n1,2\n"), ("a.csv", MLPERF.format("much"))]
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        _read(tmp_path / name)
    told = CliRunner().invoke(cli, ["profiles", "import", str(tmp_path / name)], standalone_mode=False)
    assert isinstance(told.exception, ConfigError)


@pytest.mark.skipif("FABRIC_DATA_DIR" not in os.environ, reason="FABRIC_DATA_DIR is not set")
def test_a_fabric_that_has_read_gavel_s_table_knows_better_how_its_cards_compare() -> None:
    rates = Path(os.environ["FABRIC_DATA_DIR"]) / "gavel" / "physical_cluster_throughputs.json"
    table = [profile for profile in _read(rates) if " x" not in profile.task and len(profile.measured) == 3]

    def errors_and_doubts(with_table: bool) -> tuple[float, float]:
        """Means over the job types, each as if it were new here and had run on V100s alone; its own row is taken out of the table."""
        errors, doubts = [], []
        for hidden in table:
            seen = {flavor: figures.mean for (_, _, flavor), figures in hidden.measured.items()}
            made = Estimator(CATALOGUE)
            made.merge(profile for profile in table if with_table and profile is not hidden)
            made.describe("mine@aa", Fingerprint(hidden.fingerprint.domain, "training"), (GPU,))
            for _ in range(10):
                made.record(Run("c", "mine@aa", 3, "gpu", "v100", "n", math.exp(seen["v100"]), 0.0, 0))
            made.profiles["mine@aa"].forecasts = shared_forecasts(made.profiles.values(), CATALOGUE)["mine@aa"]
            for flavor in ("p100", "k80"):
                told = made.estimate("mine@aa", 3, CATALOGUE[flavor], GPU)
                errors.append(abs(math.log(told.run_s) - seen[flavor]))
                doubts.append(told.log_sd)
        return fmean(errors), fmean(doubts)

    (error, doubt), (error_without, doubt_without) = errors_and_doubts(True), errors_and_doubts(False)
    assert error < error_without
    assert error < doubt < 0.8 * doubt_without
