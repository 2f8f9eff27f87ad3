"""Labelled texts for the demo: passages from the docstrings of installed packages, or a folder of .txt files.

The source files are parsed, never imported. Two things would make the task look easier than it is, and are taken out: the
packages' own names are masked in every text (one that says `pandas.Series` gives its label away), and the split is by
module, because neighbouring docstrings repeat each other.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from examples.demo.images import TEST_FRAC, Indices, LabelledData, files_by_label, numbered_labels, stratified_split
from fabric.errors import UserError

PACKAGES = ("pandas", "pydantic", "ray", "scipy", "sklearn", "sqlalchemy")
"""The labels; a package that is not installed is left out."""

TEXTS_PER_PACKAGE = 800
TEXTS_PER_MODULE = 20
MIN_WORDS, MAX_WORDS = 20, 60
MASK = "PACKAGE"

_NAMES = re.compile(
    r"\b\w*(?:pandas|pydantic|scipy|sklearn|scikit(?:[- ]?learn)?|sqlalchemy)\w*"
    r"|\b(?:pd|sp|sa|ray(?:_\w+)?)\b|\b(?-i:Ray[A-Z]\w*)",
    re.IGNORECASE,
)
_NOT_THEIR_OWN = {"tests", "testing", "conftest.py", "_vendor", "vendored", "thirdparty", "thirdparty_files", "third_party", "externals",
                  "array_api_compat", "array_api_extra", "generated", "examples"}  # fmt: skip
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])")
_NO_PROSE = re.compile(r"^\s*(?:>>>|\.\.|[-=~^*+|]{2,}|\||:\w+|[-*+] )|^\s*[\w, *]+ : |^\s*\w+\s*:\s*\S*$", re.MULTILINE)
_MARKUP = re.compile(r":\w+(?::\w+)*:(?=`)|[`*]+")
_WORD = re.compile(r"[A-Za-z][a-z'-]*")


def load_texts(folder: Path | None = None) -> LabelledData:
    """About 4,300 passages from the docstrings of six packages, or the .txt files under `folder`, one sub-folder per label.

    One file is one text. Files that are not UTF-8, or empty, are skipped and counted. Names are masked in docstrings only.

    Raises:
        UserError: `folder` is no folder, or has fewer than two labels with at least two texts each; or, without a folder, fewer
            than two of the packages are installed with their sources.
    """
    return _load_docstrings() if folder is None else _load_folder(folder)


def mask_names(text: str) -> str:
    """The text with the name of every package (its aliases, too) replaced by one and the same word."""
    return _NAMES.sub(MASK, text)


def passages(docstring: str) -> Iterator[str]:
    """The prose of a docstring in runs of whole sentences, MIN_WORDS..MAX_WORDS words each; what is too short is dropped."""
    run: list[str] = []
    for sentence in _sentences(docstring):
        words = sentence.split()
        if len(run) + len(words) > MAX_WORDS:
            if len(run) >= MIN_WORDS:
                yield " ".join(run)
            run = []
        run += words
    if MIN_WORDS <= len(run) <= MAX_WORDS:
        yield " ".join(run)


def _sentences(docstring: str) -> Iterator[str]:
    """Sentences without markup, at least 6 words, mostly plain ones; code, tables and lists of parameters are left out."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        if _NO_PROSE.search(paragraph):
            continue
        for sentence in _SENTENCE_END.split(" ".join(_MARKUP.sub("", paragraph).split())):
            words = sentence.split()
            if 6 <= len(words) <= MAX_WORDS and sum(bool(_WORD.match(word)) for word in words) >= 0.8 * len(words):
                yield sentence


def _load_folder(folder: Path) -> LabelledData:
    texts: list[str] = []
    texts_of: dict[str, int] = {}
    skipped = 0
    for label, files in files_by_label(folder).items():
        files = [path for path in files if path.suffix.lower() == ".txt"]
        read = [text for text in map(_read_text, files) if text]
        skipped += len(files) - len(read)
        if read:
            texts_of[label] = len(read)
            texts += read
    labels, y = numbered_labels(texts_of, folder, noun="texts (.txt)")
    train, test = stratified_split(y)
    return LabelledData(texts, labels, y, train, test, str(folder), skipped)


def _read_text(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError):
        return ""


def _load_docstrings() -> LabelledData:
    """Texts package by package, module by module; the first modules, up to a quarter of the package's texts, are held out."""
    texts: list[str] = []
    labels: list[str] = []
    y: list[int] = []
    is_test: list[bool] = []
    seen: set[str] = set()
    skipped = 0
    for package in PACKAGES:
        modules, num_broken = _texts_by_module(package, seen)
        skipped += num_broken
        num_texts = sum(map(len, modules))
        if num_texts < 2 or len(modules) < 2:
            continue
        start = len(texts)
        for module in modules:
            is_test += [len(texts) - start < num_texts * TEST_FRAC] * len(module)
            texts += module
        y += [len(labels)] * num_texts
        labels.append(package)
    if len(labels) < 2:
        raise UserError("fewer than two packages with docstrings are installed", code="no_demo_texts", hint="give a folder of texts")
    held_out = np.array(is_test)
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return LabelledData(texts, tuple(labels), _ints(y), train, test, "docstrings of installed packages", skipped)


def _ints(values: list[int]) -> Indices:
    return np.array(values, dtype=np.int64)


def _texts_by_module(package: str, seen: set[str]) -> tuple[list[list[str]], int]:
    """(texts of each module, number of files that do not parse), at most TEXTS_PER_PACKAGE texts in all.

    Modules come in the order of a hash of their path: spread over the whole package, and the same on every machine. A text whose
    first six words were seen before, in whatever package, is a near duplicate and left out; `seen` is extended.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        return [], 0
    root = Path(spec.origin).parent
    paths = [path.relative_to(root) for path in root.rglob("*.py")]
    paths = sorted((path for path in paths if not _NOT_THEIR_OWN & set(path.parts)), key=_hash_order)
    modules: list[list[str]] = []
    room, num_broken = TEXTS_PER_PACKAGE, 0
    for path in paths:
        try:
            found = _module_texts(root / path, seen)
        except (OSError, SyntaxError, ValueError):
            num_broken += 1
            continue
        if kept := found[: min(room, TEXTS_PER_MODULE)]:
            modules.append(kept)
            room -= len(kept)
        if room == 0:
            break
    return modules, num_broken


def _hash_order(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode()).digest()


def _module_texts(path: Path, seen: set[str]) -> list[str]:
    """The masked passages of a module's docstrings that were not seen before, in the order of its source."""
    found: list[str] = []
    for docstring in _docstrings(ast.parse(path.read_bytes())):
        for passage in passages(docstring):
            text = mask_names(passage)
            key = " ".join(re.findall(r"[a-z]+", text.lower())[:6])
            if key not in seen:
                seen.add(key)
                found.append(text)
    return found


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The docstrings of a module, and of the classes and functions that stand directly in it or in one another."""
    if docstring := ast.get_docstring(node):
        yield docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child)
