"""`fabric profile` as a user at a shell, without a fabric: models, callables, scripts, and what goes wrong with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
MODULE = """
import time
import numpy as np

def sort(n):
    return np.sort(np.random.default_rng(0).random(n))

def image():
    return (np.zeros((64, 64, 3), np.uint8),)

def brighten(image, gain=1.2):
    print("brightening")
    return np.clip(image * gain, 0, 255)

def hang(seconds):
    time.sleep(seconds)

def needs():
    import no_such_package_at_all

def breaks():
    raise ValueError("no good")

def kills():
    import os
    os._exit(9)

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(MODULE)
    (tmp_path / "profiler.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "absent.py").write_text("import no_such_package_at_all\ndef f(): pass\n")
    given = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])]
    nodes = [helper.make_node("Conv", ["image", "w"], ["y"])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 30, 30])]
    graph = helper.make_graph(nodes, "g", given, made, [numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    return tmp_path


def profile(folder: Path, *args: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIC_", "RAY_"))}
    env |= {"FABRIC_STATE_DIR": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    # -P, as the console script: the present directory is not searched for modules of the product.
    command = [sys.executable, "-P", "-m", "fabric.cli.main", "profile", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env, cwd=folder)
    assert done.returncode == status, f"fabric profile {' '.join(args)}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr or "--debug" in args or status == 1
    return done


def form_of(folder: Path, *args: str, status: int = 0) -> Any:
    return json.loads(profile(folder, "-o", "json", *args, status=status).stdout)


def test_a_model_is_counted_run_and_priced(folder: Path) -> None:
    form = form_of(folder, "net.onnx", "--batch", "2")
    assert (form["domain"], form["phase"]) == ("cv", "inference")
    assert form["flops"] == 2 * 2 * 8 * 30 * 30 * 27
    assert form["inputs"] == [{"name": "image", "dtype": "float32", "shape": [2, 3, 32, 32]}]
    assert form["measured"]["outcome"] == "ok"
    measured = [row for row in form["flavors"] if row["source"] == "measured"]
    assert [row["flavor"] for row in measured] == [form["measured"]["flavor"]]
    assert measured[0]["run_s"] == pytest.approx(form["measured"]["run_s"])
    assert len(form["flavors"]) == 26
    assert all(row["run_log_sd"] > 0 for row in form["flavors"])


def test_no_run_only_looks(folder: Path) -> None:
    form = form_of(folder, "net.onnx", "--no-run", "--dtype", "fp16", "--domain", "other")
    assert form["measured"]["outcome"] == "skipped"
    assert form["domain"] == "other"
    assert {row["source"] for row in form["flavors"]} == {"predicted"}


def test_a_callable_is_run_with_its_arguments(folder: Path) -> None:
    form = form_of(folder, "tools:sort", "--args", "[20000]", "--repeat", "5")
    assert form["measured"]["runs"] in (4, 5)
    assert form["measured"]["run_s"] > 0
    assert form["peak_memory_bytes"] > 10_000_000
    text = profile(folder, "tools:brighten", "--args", "tools:image").stdout
    assert "tools:brighten: cv inference" in text
    assert "brightening" not in text


def test_a_script_is_run_with_its_arguments_and_measured_whole(folder: Path) -> None:
    (folder / "job.py").write_text(
        "import sys\nblock = bytearray(150_000_000)\nblock[::4096] = b'x' * len(block[::4096])\nassert sys.argv[1:] == ['--n', '3']\n"
    )
    form = form_of(folder, "job.py", "--", "--n", "3")
    assert form["measured"]["outcome"] == "ok"
    assert form["peak_memory_bytes"] > 150_000_000


def test_what_hangs_is_killed_at_its_cap_with_all_that_it_started_and_recorded_as_such(folder: Path) -> None:
    (folder / "hangs.py").write_text("import subprocess\nsubprocess.run(['sleep', '98765'])\n")
    started_s = time.monotonic()
    done = profile(folder, "hangs.py", "--timeout", "3s", "-o", "json", status=1)
    assert time.monotonic() - started_s < 30
    form = json.loads(done.stdout)
    assert form["measured"]["outcome"] == "timeout"
    assert form["measured"]["run_s"] is None
    assert form["flavors"] == []
    assert "error[probe_timeout]" in done.stderr
    assert "hint:" in done.stderr
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "98765"]]
    assert "error[probe_timeout]" in profile(folder, "tools:hang", "--args", "[60]", "--timeout", "2s", status=1).stderr


@pytest.mark.parametrize(
    ("args", "status", "code", "said"),
    [
        (["absent:f"], 2, "missing_package", "pip install no_such_package_at_all"),
        (["tools:needs"], 2, "missing_package", "pip install no_such_package_at_all"),
        (["tools:breaks"], 1, "probe_failed", "ValueError: no good"),
        (["tools:kills"], 1, "probe_died", "exit code 9"),
        (["tools:sort"], 2, "bad_arguments", "--args"),
        (["tools:sort", "--args", "[1"], 2, "bad_arguments", "JSON"),
        (["tools:srot"], 2, "unknown_target", "did you mean sort?"),
        (["tools:number"], 2, "unknown_target", "not a callable"),
        (["nowhere:f"], 2, "unknown_target", "no module nowhere"),
        (["net.onnx", "--shape", "x=1x3"], 2, "unknown_input", "image"),
        (["net.onnx", "--shape", "image=big"], 2, "bad_shape", "x=1x3x224x224"),
        (["net.onnx", "--shape", "image=1x3x32x32:flaot32"], 2, "bad_shape", "did you mean float32?"),
        (["net.onnx", "--timeout", "soon"], 2, "bad_duration", "90s"),
        (["net.onnx", "--", "--x"], 2, "bad_arguments", "script"),
        (["cut.onnx"], 1, "unreadable_model", "cut off"),
        (["empty.onnx"], 1, "empty_file", "empty"),
        (["model.xyz"], 2, "unknown_format", ".onnx"),
        (["bad.py"], 2, "unreadable_script", "SyntaxError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_with_a_code_and_a_cure(folder: Path, args: list[str], status: int, code: str, said: str) -> None:
    (folder / "cut.onnx").write_bytes((folder / "net.onnx").read_bytes()[:300])
    (folder / "empty.onnx").touch()
    (folder / "model.xyz").write_bytes(b"x")
    (folder / "bad.py").write_text("def f(:\n")
    done = profile(folder, *args, status=status)
    assert f"error[{code}]" in done.stderr
    assert said in done.stderr
    assert done.stdout == ""


def test_a_script_that_fails_is_reported_with_what_it_printed(folder: Path) -> None:
    (folder / "fails.py").write_text("print('half way')\nraise SystemExit(4)\n")
    done = profile(folder, "fails.py", status=1)
    assert "it ended with exit code 4" in done.stdout
    assert "half way" in done.stderr
    assert "error[probe_failed]" in done.stderr


def test_a_picture_is_written_beside_the_table(folder: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    profile(folder, "net.onnx", "--png", "roofline.png")
    assert (folder / "roofline.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason=f"no models in {DATA} (set FABRIC_DATA_DIR)")
def test_squeezenet_is_predicted_and_then_measured_here(folder: Path) -> None:
    """How near the two are is not asserted: other work on the machine may make any run seven times as long."""
    path = str(DATA / "models" / "SqueezeNet_fp16.onnx")
    plain, run = form_of(folder, path, "--no-run"), form_of(folder, path)
    here = run["measured"]["flavor"]
    guess, seen = (next(row for row in form["flavors"] if row["flavor"] == here) for form in (plain, run))
    assert (guess["source"], seen["source"]) == ("predicted", "measured")
    assert seen["run_s"] == run["measured"]["run_s"] > 0
    assert plain["measured"]["outcome"] == "skipped" and 0.1 < guess["run_log_sd"] < 1.0
