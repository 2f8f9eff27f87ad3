"""Labelled images for the demo, and the shape that both kinds of demo data share.

Images come from scikit-learn's handwritten digits or from a folder with one sub-folder per label. The split is fixed by the
data alone: the same files give the same train and test indices on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fabric.errors import UserError

SIDE_PX = 32
"""Images from a folder are resized to SIDE_PX x SIDE_PX grayscale: enough for a demo, the same input size for every folder."""

TEST_FRAC = 0.25
SPLIT_SEED = 0

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledData:
    """Items with one label each and a fixed split.

    `items` is float32[n, h, w] for images and a list of n strings for texts. `y` is int64[n]: the position of each item's label
    in `labels`. `train` and `test` are ascending positions in `items`, disjoint, and together all of them. `skipped` counts the
    files that could not be read.
    """

    items: NDArray[np.float32] | list[str]
    labels: tuple[str, ...]
    y: Indices
    train: Indices
    test: Indices
    source: str
    skipped: int = 0

    def describe(self) -> str:
        """One line for a person: source, number of items and labels, and what had to be left out."""
        skipped = f", {self.skipped} unreadable files skipped" if self.skipped else ""
        return f"{self.source}: {len(self.y)} items, {len(self.labels)} labels ({len(self.train)} train, {len(self.test)} test){skipped}"


def load_images(folder: Path | None = None) -> LabelledData:
    """The digits (1,797 images of 8x8, values 0..16), or the images under `folder` (32x32, values 0..255), one sub-folder per label.

    Images of any size and mode are turned upright, put on white where transparent, made gray and resized. Files that Pillow cannot
    read are skipped and counted; a sub-folder without a readable image is no label.

    Raises:
        UserError: `folder` is no folder, or has fewer than two labels with at least two images each.
    """
    if folder is None:
        from sklearn.datasets import load_digits  # 4 s to import; a folder needs none of it

        digits = load_digits()
        y = digits.target.astype(np.int64)
        train, test = stratified_split(y)
        return LabelledData(digits.images.astype(np.float32), tuple(map(str, digits.target_names)), y, train, test, "scikit-learn digits")
    images: list[NDArray[np.float32]] = []
    files_of: dict[str, int] = {}
    skipped = 0
    for label, files in files_by_label(folder).items():
        read = [image for image in map(_read_image, files) if image is not None]
        skipped += len(files) - len(read)
        if read:
            files_of[label] = len(read)
            images += read
    labels, y = numbered_labels(files_of, folder, noun="images")
    train, test = stratified_split(y)
    return LabelledData(np.stack(images), labels, y, train, test, str(folder), skipped)


def files_by_label(folder: Path) -> dict[str, list[Path]]:
    """Label -> its files at any depth, both sorted by name; hidden files and folders are left out.

    Raises:
        UserError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", code="bad_data_folder", hint=_LAYOUT_HINT, folder=str(folder))
    found: dict[str, list[Path]] = {}
    for sub in sorted(folder.iterdir()):
        if sub.is_dir() and not sub.name.startswith("."):
            found[sub.name] = sorted(path for path in sub.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(sub)))
    return found


def numbered_labels(items_of: dict[str, int], folder: Path, *, noun: str) -> tuple[tuple[str, ...], Indices]:
    """Label -> number of items, in the order of the items, becomes the labels' names and `y`: int64[n].

    Raises:
        UserError: fewer than two labels, or a label with a single item (it could not be both learnt and tested).
    """
    if len(items_of) < 2:
        have = ", ".join(items_of) or "none"
        message = f"{folder} needs at least two labels with {noun}, and has {len(items_of)} ({have})"
        raise UserError(message, code="bad_data_folder", hint=_LAYOUT_HINT, folder=str(folder))
    if single := [label for label, count in items_of.items() if count < 2]:
        message = f"{folder}: only one of the {noun} can be read under {', '.join(single)}; at least two are needed for each label"
        raise UserError(message, code="bad_data_folder", hint=f"add {noun} there, or remove the sub-folder", folder=str(folder))
    return tuple(items_of), np.repeat(np.arange(len(items_of), dtype=np.int64), list(items_of.values()))


def stratified_split(y: Sequence[int] | Indices) -> tuple[Indices, Indices]:
    """Ascending (train, test) positions: a seeded quarter of each label, and never less than one item of it, is held out."""
    classes = np.asarray(y, dtype=np.int64)
    draw = np.random.default_rng(SPLIT_SEED)
    is_test = np.zeros(len(classes), dtype=bool)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        is_test[draw.permutation(members)[: max(1, round(len(members) * TEST_FRAC))]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


_LAYOUT_HINT = "make one sub-folder per label, named like it, and put that label's files there"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_image(path: Path) -> NDArray[np.float32] | None:
    """float32[SIDE_PX, SIDE_PX], values 0..255; None where Pillow cannot read it, or will not (a decompression bomb)."""
    try:
        with Image.open(path) as opened:
            gray = _as_gray(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return np.asarray(gray.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR), dtype=np.float32)


def _as_gray(image: Image.Image) -> Image.Image:
    """Mode L. More than 8 bits are scaled to the image's own range: Pillow would clip them, and most would come out white."""
    if image.mode[0] in "IF":
        values = np.asarray(image, dtype=np.float32)
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(((values - low) * (255.0 / max(high - low, 1e-9))).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L")
