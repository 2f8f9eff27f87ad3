"""Decides what a job is called and whose history predicts it, where its user does not say. Pure."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from fabric.api.schema import SubmitRequest


def shown_command(request: SubmitRequest) -> str:
    """What a listing shows of it."""
    text = request.command or request.name or "a callable"
    return text if len(text) <= 1000 else text[:999] + "…"


def _parts(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an open quote: the shell will say so
        return command.split()


def _program(command: str) -> list[str]:
    """The words up to the script: `python -u train.py --lr 3` -> [python, train.py]."""
    words = [word for word in _parts(command) if "=" not in word or "/" in word.partition("=")[0]]
    if not words:
        return ["job"]
    is_module = "-m" in words[1:3]
    script = next((word for word in words[1:] if not word.startswith("-")), None)
    if script is None or not (is_module or "." in PurePosixPath(script).name):
        return words[:1]
    return [words[0], script]


def default_name(request: SubmitRequest) -> str:
    """`train` of `python train.py` and of `python -m lab.train`."""
    if request.command is None:
        return "callable"
    program = _program(request.command)[-1]
    is_module = "-m" in _parts(request.command)[1:3]
    return ((program.rpartition(".")[2] if is_module else PurePosixPath(program).stem) or "job")[:128]


def default_family(request: SubmitRequest) -> str:
    """Its name, where it has one; else its program: `python train.py`, whatever comes behind it."""
    return (request.name or (" ".join(_program(request.command)) if request.command else "callable"))[:256]
