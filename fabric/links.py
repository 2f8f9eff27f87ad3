"""Decides which paths and symbolic links may travel with a directory: those that stay inside it.

A link may climb only at the start of its target (`../data/x`). Judged so, names are enough: every directory on the way is a real one
or another link that passed.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def is_plain(relative: str) -> bool:
    """Whether a path is relative and leads nowhere but down."""
    path = PurePosixPath(relative)
    return relative == str(path) != "." and not path.is_absolute() and ".." not in path.parts and "\0" not in relative


def stays_inside(relative: str, target: str) -> bool:
    """Whether a link at `relative` with this target stays inside."""
    parts = PurePosixPath(target).parts
    climb = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    is_inside = climb <= len(PurePosixPath(relative).parts) - 1
    return bool(target) and is_inside and ".." not in parts[climb:] and not target.startswith("/") and "\0" not in target


def target_inside(root: Path, link: Path) -> str | None:
    """The target of a link below `root`, relative to the link's directory; None where it leads out, by itself or through another link."""
    top, real = os.path.realpath(root), os.path.realpath(link)
    if real != top and not real.startswith(f"{top.rstrip('/')}/"):
        return None
    target, relative = str(link.readlink()), link.relative_to(root).as_posix()
    if not stays_inside(relative, target):
        # Absolute, or down and up again: the same place, said plainly. The directory will lie elsewhere.
        target = os.path.relpath(real, os.path.realpath(link.parent))
    return target if stays_inside(relative, target) else None
