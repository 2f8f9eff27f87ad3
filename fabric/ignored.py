"""Decides which files of a working directory belong to it: all but `.git`, `__pycache__` and what `.gitignore` files name.

As git does: a deeper file overrules a higher one, a directory that is ignored is not looked into, and within a repository the
`.gitignore` files above the directory count too. Unlike git, nothing is kept for being tracked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

IGNORE_FILE = ".gitignore"
_NEVER = (".git", "__pycache__")

Rules = tuple[tuple[Path, GitIgnoreSpec], ...]
"""(directory, its rules), the deepest last."""


def belonging(root: Path) -> Iterator[os.DirEntry[str]]:
    """What belongs below `root`, in the order of names, a directory before what is in it. Links are not followed.

    Raises: OSError.
    """
    above = _rules_above(root)
    # Whoever names an ignored directory means it.
    return _walked(root, () if _is_ignored(root, True, above) else above)


def _walked(directory: Path, rules: Rules) -> Iterator[os.DirEntry[str]]:
    rules = _with_rules_of(directory, rules)
    with os.scandir(directory) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    for entry in inside:
        is_directory = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or _is_ignored(Path(entry.path), is_directory, rules):
            continue
        yield entry
        if is_directory:
            yield from _walked(Path(entry.path), rules)


def _rules_above(root: Path) -> Rules:
    """Of the directories between the repository that `root` lies in and `root` itself."""
    if (root / ".git").exists():
        return ()
    above: list[Path] = []
    for parent in root.parents:
        above.append(parent)
        if (parent / ".git").exists():
            rules: Rules = ()
            for directory in reversed(above):
                rules = _with_rules_of(directory, rules)
            return rules
    return ()


def _with_rules_of(directory: Path, rules: Rules) -> Rules:
    file = directory / IGNORE_FILE
    if not file.is_file():
        return rules
    lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    return (*rules, (directory, _spec(lines)))


def _spec(lines: list[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        # git skips a line that is no pattern, such as a lone "!".
        return GitIgnoreSpec.from_lines([line for line in lines if _is_pattern(line)])


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _is_ignored(path: Path, is_directory: bool, rules: Rules) -> bool:
    for directory, spec in reversed(rules):
        relative = path.relative_to(directory).as_posix()
        verdict = spec.check_file(f"{relative}/" if is_directory else relative).include
        if verdict is not None:
            return verdict
    return False
