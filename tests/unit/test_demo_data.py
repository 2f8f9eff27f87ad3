"""The demo's data: folders of any images or texts, a stable split, and texts that do not give their label away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.demo import texts
from examples.demo.images import SIDE_PX, load_images, stratified_split
from fabric.errors import UserError


def _write_images(folder: Path) -> Path:
    for label, level in (("dark", 20), ("light", 230)):
        (folder / label / "more").mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (10 + i, 50), (level, level, level)).save(folder / label / f"{i}.png")
    return folder


def _write_texts(folder: Path, per_label: int = 4) -> Path:
    for label in ("rain", "sun"):
        (folder / label).mkdir(parents=True)
        for i in range(per_label):
            (folder / label / f"{i}.txt").write_text(f"a day of {label}\nnumber {i}", encoding="utf-8")
    return folder


def test_folder_of_images_becomes_gray_squares_with_the_sub_folders_as_labels(tmp_path: Path) -> None:
    data = load_images(_write_images(tmp_path))
    assert data.labels == ("dark", "light")
    assert isinstance(data.items, np.ndarray)
    assert data.items.shape == (8, SIDE_PX, SIDE_PX)
    assert data.items.dtype == np.float32
    assert data.items[data.y == 0].max() < 50 < data.items[data.y == 1].min()
    assert data.source == str(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_images_of_every_mode_are_read(tmp_path: Path, mode: str) -> None:
    folder = _write_images(tmp_path)
    suffix = "tif" if mode in ("CMYK", "I", "F") else "png"
    Image.new(mode, (40, 7)).save(folder / "dark" / "more" / f"odd.{suffix}")
    assert len(load_images(folder).y) == 9


def test_16_bit_images_keep_their_contrast(tmp_path: Path) -> None:
    folder = _write_images(tmp_path)
    ramp = np.linspace(1000, 60000, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(folder / "dark" / "00.png")
    pixels = np.asarray(load_images(folder).items[1])
    assert pixels.min() < 10
    assert pixels.max() > 245
    assert 100 < pixels.mean() < 155


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    folder = _write_images(tmp_path)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "light" / "clear.png")
    assert np.asarray(load_images(folder).items[-1]).min() == 255


def test_broken_images_are_skipped_and_counted_and_hidden_ones_ignored(tmp_path: Path) -> None:
    folder = _write_images(tmp_path)
    (folder / "dark" / "broken.png").write_bytes(b"no image")
    whole = (folder / "light" / "0.png").read_bytes()
    (folder / "light" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "light" / ".DS_Store").write_bytes(b"x")
    data = load_images(folder)
    assert (len(data.y), data.skipped) == (8, 2)
    assert "2 unreadable files skipped" in data.describe()


def test_folder_of_texts_takes_each_txt_file_as_one_text(tmp_path: Path) -> None:
    folder = _write_texts(tmp_path)
    (folder / "sun" / "notes.md").write_text("not a text of this set")
    (folder / "sun" / "latin1.txt").write_bytes(b"caf\xe9")
    (folder / "sun" / "empty.txt").write_text(" \n")
    data = texts.load_texts(folder)
    assert data.items[0] == "a day of rain number 0"
    assert (data.labels, len(data.items), data.skipped) == (("rain", "sun"), 8, 2)


@pytest.mark.parametrize("load", [load_images, texts.load_texts])
@pytest.mark.parametrize("layout", ["missing", "a file", "empty", "one label", "one item per label"])
def test_unusable_folders_are_errors_with_a_hint(tmp_path: Path, load, layout: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "data"
    if layout == "a file":
        folder.write_text("x")
    elif layout != "missing":
        folder.mkdir()
    if layout in ("one label", "one item per label"):
        for label in ("a", "b")[: 1 if layout == "one label" else 2]:
            (folder / label).mkdir()
            Image.new("L", (4, 4)).save(folder / label / "0.png")
            (folder / label / "0.txt").write_text("one text")
    with pytest.raises(UserError) as raised:
        load(folder)
    assert raised.value.code == "bad_data_folder"
    assert raised.value.hint
    assert str(folder) in raised.value.message


def test_split_holds_out_a_quarter_of_each_label_and_is_always_the_same() -> None:
    y = np.repeat([0, 1, 2], [100, 40, 2])
    train, test = stratified_split(y)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))
    assert np.bincount(y[test]).tolist() == [25, 10, 1]
    assert np.array_equal(np.sort(test), test)
    assert all(np.array_equal(a, b) for a, b in zip((train, test), stratified_split(y), strict=True))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Use pandas.Series or pd.Series, not NumPy's array.", "Use PACKAGE.Series or PACKAGE.Series, not NumPy's array."),
        ("scikit-learn and sklearn_extra on SciPy", "PACKAGE and PACKAGE on PACKAGE"),
        ("Ray starts; a RayActorError of ray.get", "PACKAGE starts; a PACKAGE of PACKAGE.get"),
        ("an array, a rayon, an X-spline, a span", "an array, a rayon, an X-spline, a span"),
        ("SQLAlchemy and pydantic_core", "PACKAGE and PACKAGE"),
    ],
)
def test_names_of_the_packages_are_masked_and_their_look_alikes_are_not(text: str, masked: str) -> None:
    assert texts.mask_names(text) == masked


def test_passages_keep_prose_and_leave_out_code_parameters_and_short_scraps() -> None:
    prose = "This function reads a table from a file and gives every column the type that fits its values best. " * 2
    docstring = f"""Too short.

{prose}

Parameters
----------
path : str
    Where the very long table is kept that this function is going to read for you, whatever size it may have.

>>> read("a table with many words that would otherwise pass for a sentence of prose in this docstring")
"""
    assert list(texts.passages(docstring)) == [" ".join(prose.split())]


@pytest.fixture
def fake_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages of eight modules with a passage of their own each, one that all share, and one module that does not parse."""
    for package in ("fake_left", "fake_right"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / package / "broken.py").write_text("def (")
        for i in range(8):
            unique = f"{chr(97 + i) * 5} {package[5:]} " + "tells of its own work in words that nobody else has used before it. " * 2
            shared = "This passage stands in every module of both packages and therefore tells nothing about where it is from. " * 2
            (tmp_path / package / f"module_{i}.py").write_text(f'"""{unique}"""\ndef f():\n    """{shared}"""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(texts, "PACKAGES", ("fake_left", "fake_right", "fake_missing"))


@pytest.mark.usefixtures("fake_packages")
def test_docstrings_are_read_without_importing_deduplicated_and_split_by_module() -> None:
    data = texts.load_texts()
    assert data.labels == ("fake_left", "fake_right")
    assert data.skipped == 2
    assert sum(text.startswith("This passage stands") for text in data.items) == 1
    assert np.bincount(data.y).tolist() == [9, 8]
    assert set(data.train) | set(data.test) == set(range(17))
    assert not set(data.train) & set(data.test)
    assert set(data.y[data.test]) == {0, 1} == set(data.y[data.train])
    assert texts.load_texts().items == data.items


def test_without_two_packages_the_docstrings_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PACKAGES", ("fake_missing",))
    with pytest.raises(UserError, match="fewer than two packages"):
        texts.load_texts()
