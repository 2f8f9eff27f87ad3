"""A prepared ONNX model: the same answers from mapped files, written once, whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fabric.errors import ModelError, RuntimeFault
from serve_apps.runtimes import prepared
from serve_apps.runtimes.onnx_file import weight_files
from serve_apps.runtimes.prepared import discard, is_complete, prepare
from serve_apps.runtimes.prepared_model import load_prepared

SIZE = 64
X = numpy.linspace(-1, 1, 3 * SIZE, dtype=numpy.float32).reshape(3, SIZE)


def weights(seed: int = 0) -> list[numpy.ndarray]:
    draw = numpy.random.default_rng(seed)
    return [draw.standard_normal((SIZE, SIZE)).astype(numpy.float32) / 8 for _ in range(2)]


def write_layers(path: Path, seed: int = 0, *, is_external: bool = False) -> Path:
    """x -> relu(x a) b -> y."""
    a, b = weights(seed)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SIZE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", rows[:1], rows[1:], [numpy_helper.from_array(a, "a"), numpy_helper.from_array(b, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=is_external, location=f"{path.name}.data", size_threshold=0)
    return path


def answer(seed: int = 0) -> numpy.ndarray:
    a, b = weights(seed)
    return numpy.maximum(X @ a, 0) @ b


@pytest.mark.parametrize("is_external", [False, True], ids=["weights inside", "weights beside it"])
def test_both_forms_answer_as_the_model_does(tmp_path: Path, is_external: bool) -> None:
    folder = prepare(write_layers(tmp_path / "m.onnx", is_external=is_external), tmp_path / "cache")
    with load_prepared(folder, swap_after_s=None) as model:
        assert model.metadata.max_batch_size > 0
        numpy.testing.assert_allclose(model.run({"x": X})["y"], answer(), rtol=1e-4, atol=1e-5)
        assert not model.runtime.is_packed
        model.runtime.swap()
        assert model.runtime.is_packed
        numpy.testing.assert_allclose(model.run({"x": X})["y"], answer(), rtol=1e-4, atol=1e-5)


def test_the_packed_form_takes_over_behind_the_first_answer(tmp_path: Path) -> None:
    model = load_prepared(prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache"), swap_after_s=0)
    assert model.runtime._timer is None
    model.run({"x": X})
    model.runtime._timer.join(timeout=30)
    assert model.runtime.is_packed
    numpy.testing.assert_allclose(model.run({"x": X})["y"], answer(), rtol=1e-4, atol=1e-5)


def test_a_packed_form_that_does_not_load_leaves_the_mapped_one_answering(tmp_path: Path) -> None:
    folder = prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache")
    model = load_prepared(folder, swap_after_s=None)
    (folder / "packed.onnx").write_bytes(b"torn")
    model.runtime.swap()
    assert not model.runtime.is_packed
    assert model.run({"x": X})["y"].shape == (3, SIZE)


def test_a_closed_model_answers_no_more_and_swaps_no_more(tmp_path: Path) -> None:
    model = load_prepared(prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache"), swap_after_s=60)
    model.run({"x": X})
    model.close()
    model.runtime.swap()
    assert not model.runtime.is_packed
    with pytest.raises(ModelError, match="closed"):
        model.run({"x": X})


def test_a_model_is_written_once_and_a_changed_one_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_layers(tmp_path / "m.onnx", is_external=True)
    first = prepare(file, tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(prepared, "_write", lambda *_: pytest.fail("written twice"))
        assert prepare(file, tmp_path / "cache") == first
    other = prepare(write_layers(file, seed=1, is_external=True), tmp_path / "cache")
    assert other != first
    numpy.testing.assert_allclose(load_prepared(other).run({"x": X})["y"], answer(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mapped.onnx", "mapped.bin", "packed.bin", "manifest.json"])
def test_a_folder_with_a_torn_file_is_written_anew(tmp_path: Path, name: str) -> None:
    file = write_layers(tmp_path / "m.onnx")
    folder = prepare(file, tmp_path / "cache")
    torn = folder / name
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    with pytest.raises(ModelError) as caught:
        load_prepared(folder)
    assert caught.value.code == "prepared_damaged"
    assert prepare(file, tmp_path / "cache") == folder
    assert load_prepared(folder).run({"x": X})["y"].shape == (3, SIZE)


def test_what_is_mapped_survives_the_folder(tmp_path: Path) -> None:
    folder = prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache")
    model = load_prepared(folder, swap_after_s=None)
    discard(folder)
    discard(folder)
    assert not folder.exists()
    numpy.testing.assert_allclose(model.run({"x": X})["y"], answer(), rtol=1e-4, atol=1e-5)


def test_two_writers_make_one_folder(tmp_path: Path) -> None:
    file = write_layers(tmp_path / "m.onnx")
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(prepare, [file] * 2, [tmp_path / "cache"] * 2))
    assert folders[0] == folders[1]
    assert is_complete(folders[0])
    assert [path.name for path in (tmp_path / "cache").iterdir() if ".new-" in path.name] == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    file = write_layers(tmp_path / "m.onnx")
    folder = prepare(file, tmp_path / "cache")
    discard(folder)
    left = tmp_path / "cache" / f"{folder.name}.new-abc"
    left.mkdir()
    (left / "mapped.bin").write_bytes(bytes(10))
    prepare(file, tmp_path / "cache")
    assert not left.exists()


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_layers(tmp_path / "m.onnx")
    usage = prepared.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(RuntimeFault) as caught:
        prepare(file, tmp_path / "cache")
    assert caught.value.code == "cache_full"
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == ["digests"]


def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    file = write_layers(tmp_path / "m.onnx")
    code = (
        "import resource, signal, sys; from pathlib import Path; from fabric.errors import FabricError\n"
        "from serve_apps.runtimes.prepared import prepare\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: prepare(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except FabricError as error: print(error.code)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, file, tmp_path / "cache"], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() in ("cache_full", "model_unreadable")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == ["digests"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000
    assert is_complete(prepare(file, tmp_path / "cache"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(RuntimeFault) as caught:
        prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache")
    assert caught.value.code == "cache_unwritable"


def test_a_file_where_the_cache_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(RuntimeFault) as caught:
        prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache")
    assert caught.value.code == "cache_unwritable"


def test_forms_that_answer_otherwise_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_layers(tmp_path / "other.onnx", seed=1)
    save = prepared._save
    monkeypatch.setattr(
        prepared, "_save", lambda file, target, settings: save(other if target.stem == "packed" else file, target, settings)
    )
    with pytest.raises(ModelError, match=r"packed\.onnx of .* answers otherwise"):
        prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == ["digests"]


@pytest.mark.parametrize("operator", ["RandomNormalLike", "Reshape"])
def test_a_model_that_no_example_can_judge_is_prepared_all_the_same(tmp_path: Path, operator: str) -> None:
    """One gives other results each time; the other does not run on a made-up shape."""
    floats = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    sizes = helper.make_tensor_value_info("s", TensorProto.INT64, ["k"])
    takes = {"RandomNormalLike": ["x"], "Reshape": ["x", "s"]}[operator]
    wanted = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(operator, takes, ["y"])], "g", [floats, sizes][: len(takes)], wanted)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    assert is_complete(prepare(tmp_path / "m.onnx", tmp_path / "cache"))


def test_the_files_of_weights_are_found(tmp_path: Path) -> None:
    assert weight_files(write_layers(tmp_path / "a.onnx")) == []
    assert weight_files(write_layers(tmp_path / "b.onnx", is_external=True)) == [tmp_path / "b.onnx.data"]


def test_weights_that_are_missing_or_outside_are_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    file = write_layers(tmp_path / "models" / "m.onnx", is_external=True)
    (tmp_path / "models" / "m.onnx.data").rename(tmp_path / "m.onnx.data")
    with pytest.raises(ModelError, match=r"m\.onnx\.data"):
        weight_files(file)
    # A name of the same length, so that the file stays whole.
    file.write_bytes(file.read_bytes().replace(b"m.onnx.data", b"../onnx.dat"))
    (tmp_path / "onnx.dat").write_bytes(bytes(100_000))
    with pytest.raises(ModelError, match="not a file in"):
        weight_files(file)


def test_weights_that_are_linked_as_in_a_hubs_cache_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    write_layers(tmp_path / "blobs" / "m.onnx", is_external=True)
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / "blobs" / name).rename(tmp_path / "blobs" / f"blob-{name}")
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / f"blob-{name}")
    model = load_prepared(prepare(tmp_path / "snapshot" / "m.onnx", tmp_path / "cache"))
    numpy.testing.assert_allclose(model.run({"x": X})["y"], answer(), rtol=1e-4, atol=1e-5)


def test_the_manifest_names_each_file_with_its_size(tmp_path: Path) -> None:
    folder = prepare(write_layers(tmp_path / "m.onnx"), tmp_path / "cache")
    sizes = json.loads((folder / "manifest.json").read_text())["bytes"]
    assert sizes.keys() == {"mapped.onnx", "mapped.bin", "packed.onnx", "packed.bin"}
    assert sizes["mapped.bin"] >= 2 * 4 * SIZE * SIZE
