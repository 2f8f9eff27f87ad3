"""What a file is, what is said of one that is nothing known, who may have written it, and formats of other packages."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Self

import pytest

from fabric.errors import ModelError, UserError
from serve_apps import load_model
from serve_apps.runtimes import LoadOptions, formats
from serve_apps.runtimes.batch_dimension import max_batch_size
from serve_apps.runtimes.formats import Format
from serve_apps.runtimes.pickle_file import pickled_class
from serve_apps.tensors import Array, ModelMetadata, TensorSpec
from tests.softmax_models import classifier, write_exported, write_pickle


class Trap:
    """Pickled code: makes a folder as it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def refused(path: Path, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_model(path, **options)
    return caught.value


def test_a_zip_or_a_folder_that_is_no_model_is_shown_by_what_is_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    error = refused(tmp_path / "m.zip")
    assert error.code == "unknown_model_format"
    assert "readme.txt" in error.message
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.h5").write_bytes(b"")
    error = refused(tmp_path / "folder")
    assert error.code == "unknown_model_format"
    assert "weights.h5" in error.message


def test_weights_alone_are_told_from_a_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"w": torch.zeros(3)}, tmp_path / "w.pt")
    error = refused(tmp_path / "w.pt")
    assert error.code == "unknown_model_format"
    assert "load_weights" in str(error.hint)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_class_in_a_pickle_is_read_and_not_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol))
    assert pickled_class(tmp_path / "m") == f"{os.mkdir.__module__}.mkdir"
    (tmp_path / "n").write_bytes(pickle.dumps([1, 2], protocol))
    assert pickled_class(tmp_path / "n") is None
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz"])
def test_joblibs_compressions_are_seen_through(tmp_path: Path, compress: str) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump(classifier(), tmp_path / "m", compress=(compress, 3))
    assert pickled_class(tmp_path / "m") == "sklearn.linear_model._logistic.LogisticRegression"


@pytest.mark.parametrize("write", [write_pickle, write_exported])
def test_a_file_that_may_run_code_is_loaded_where_it_is_ones_own_alone(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path)
    assert load_model(path).metadata.inputs
    assert refused(path, is_trusted=False).code == "unsafe_model"
    path.chmod(0o666)
    error = refused(path)
    assert error.code == "unsafe_model"
    assert "others than you" in error.message
    assert load_model(path, is_trusted=True).metadata.inputs


def test_a_trap_that_is_not_trusted_is_not_sprung(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert refused(path, is_trusted=False).code == "unsafe_model"
    tmp_path.chmod(0o777)
    assert refused(path).code == "unsafe_model"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("package", "extra", "content"),
    [
        ("torch", "tierfabric[torch]", {"m/constants.pkl": "", "m/code/a.py": ""}),
        ("torch", "tierfabric[torch]", {"m/archive_format": "", "m/models/model.json": ""}),
        ("ai_edge_litert.interpreter", "tierfabric[litert]", b"\x1c\x00\x00\x00TFL3" + bytes(40)),
        ("tensorflow", "tierfabric[tensorflow]", None),
        ("mindspore", "tierfabric[mindspore]", b"\x0a\x031.1\x3a\x02\x12\x00"),
    ],
    ids=["TorchScript", "torch.export", "TensorFlow Lite", "SavedModel", "MINDIR"],
)
def test_a_framework_that_is_absent_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, content: Any
) -> None:
    path = tmp_path / "model"
    if content is None:
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith("serve_apps.runtimes.t") or name.endswith((".saved_model", ".mindir"))]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError) as caught:
        load_model(path)
    assert caught.value.code == "missing_package"
    assert extra in str(caught.value.hint)


class Doubling:
    """A sixth framework: a text file with the names of its inputs."""

    def __init__(self, names: list[str]) -> None:
        specs = tuple(TensorSpec(name, "FP32", (-1,)) for name in names)
        self.metadata = ModelMetadata("", (), "doubling_text", specs, specs)

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        return cls(path.read_text().split()[1:])

    def infer(self, inputs: Any) -> dict[str, Array]:
        return {name: 2 * array for name, array in inputs.items()}

    def close(self) -> None:
        pass


DOUBLING = Format("Doubling", lambda path: path.is_file() and path.read_bytes().startswith(b"doubling"), f"{__name__}:Doubling", "x", "x")


def test_another_packages_format_is_loaded_as_a_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("broken", "no_such_module:FORMAT", formats.GROUP),
        EntryPoint("odd", "os:path", formats.GROUP),
        EntryPoint("doubling", f"{__name__}:DOUBLING", formats.GROUP),
    ]
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Doubling.__module__])
    monkeypatch.setattr(formats, "entry_points", lambda group: points if group == formats.GROUP else [])
    formats.plugged_in.cache_clear()
    try:
        (tmp_path / "m").write_text("doubling a")
        model = load_model(tmp_path / "m")
        assert model.infer([1.5])["a"].tolist() == [3.0]
        assert "Doubling" in str(refused(tmp_path).hint)
    finally:
        formats.plugged_in.cache_clear()


@pytest.mark.parametrize(
    ("shapes", "is_batch"),
    [
        ([["batch", 3], ["batch", 2]], True),
        ([[None, 3], [None]], True),
        ([["N"], ["N", "M"]], True),
        ([["batch", 3], ["classes"]], False),
        ([["batch", 3], [1, 2]], False),
        ([["batch", 3], []], False),
        ([["sequence_length"], ["sequence_length"]], False),
        ([[1, 3], [1, 2]], False),
        ([], False),
    ],
)
def test_dimension_0_is_a_batch_where_all_have_the_same_open_one(shapes: Any, is_batch: bool) -> None:
    assert (max_batch_size(shapes) > 0) is is_batch
