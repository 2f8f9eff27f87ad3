"""What the word after `fabric profile` names: a model file, a script, a callable, or a task that the fabric knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fabric.errors import ModelError, UserError

Kind = Literal["onnx", "torch", "script", "callable", "task"]
_SUFFIXES: dict[str, Kind] = {".onnx": "onnx", ".pt": "torch", ".pth": "torch", ".pt2": "torch", ".py": "script"}
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_NAME = re.compile(r"[\w.<>-]+(@[0-9a-f]+)?")
_FORMS = "give a model (.onnx, .pt, .pth, .pt2), a script (.py), a callable (module:function) or the name of a task"


@dataclass(frozen=True, slots=True)
class Target:
    """`name` as it was given; `path` of what is a file."""

    kind: Kind
    name: str
    path: Path | None = None


def read_target(word: str) -> Target:
    """Raises: UserError `unknown_target`, `unknown_format`; ModelError `empty_model`."""
    path = Path(word)
    if path.is_dir():
        raise UserError(f"{word} is a directory", code="unknown_target", hint=_FORMS)
    if path.is_file():
        kind = _SUFFIXES.get(path.suffix.lower())
        if kind is None:
            shown = f"the ending {path.suffix!r}" if path.suffix else "a file without an ending"
            raise UserError(f"{word}: {shown} is no format that is known", code="unknown_format", hint=_FORMS, path=word)
        if path.stat().st_size == 0:
            raise ModelError(f"{word} is empty", code="empty_file", hint="it may still be being written, or its download failed", path=word)
        return Target(kind, word, path)
    if _CALLABLE.fullmatch(word):
        return Target("callable", word)
    if path.suffix.lower() in _SUFFIXES or "/" in word:
        raise UserError(f"there is no file {word}", code="unknown_target", hint=_FORMS, path=word)
    if _NAME.fullmatch(word):
        return Target("task", word)
    raise UserError(f"{word!r} names nothing that can be profiled", code="unknown_target", hint=_FORMS)
