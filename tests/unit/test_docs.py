"""The pages say what is there: modules, commands, settings, links and YAML are checked against the code."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import fabric
from fabric.cli.lazy import LazyGroup
from fabric.cli.main import cli
from fabric.config import FabricConfig, load_config
from fabric.explanation import WORDS
from fabric.policy_document import read_policy
from pools.flavors import load_catalogue
from serve_apps.rollout.documents import read_rollout

ROOT = Path(__file__).parents[2]
PACKAGES = ("fabric", "pools", "profiler", "serve_apps")
FOLDERS = ("benchmarks", "cluster_configs", "examples")
NAMED = ("README.md", "CHANGELOG.md", *(f"{folder}/README.md" for folder in FOLDERS))
PAGES = sorted([*(ROOT / name for name in NAMED), *(ROOT / "docs").rglob("*.md")])
CONFIGURATION = ROOT / "docs" / "configuration.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FILE = re.compile(rf"(?:{'|'.join((*PACKAGES, 'tests', 'docs', 'benchmarks', 'examples'))})/[\w./-]*\.(?:py|yaml|md|toml)")
_DOTTED = re.compile(rf"(?<![\w.])(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
_ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)


def named(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=[str(page.relative_to(ROOT)) for page in pages])


def fenced(page: Path, *languages: str) -> list[str]:
    return [text for language, text in _FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def inline(page: Path) -> list[str]:
    """What stands between single back-quotes, outside of fenced blocks."""
    return _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


# -- files, modules and links ----------------------------------------------------------------------------------------------


@named(PAGES)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named_files = {file for text in inline(page) for file in _FILE.findall(text)}
    assert [file for file in sorted(named_files) if not (ROOT / file).is_file()] == []


@named(PAGES)
def test_every_dotted_name_that_a_page_names_exists(page: Path) -> None:
    dotted = {name for text in inline(page) for name in _DOTTED.findall(text)} - {"fabric.yaml"}
    assert [name for name in sorted(dotted) if not exists(name)] == []


@named(PAGES)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith(("http", "mailto"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or a name that a module defines. Nothing is imported: some modules need Ray."""
    place, parts = ROOT, dotted.split(".")
    while parts and ((place / parts[0]).is_dir() or (place / f"{parts[0]}.py").is_file()):
        # A public function may share its name with nothing: `fabric.task` is no module.
        place, parts = place / parts[0], parts[1:]
    source = place.with_suffix(".py") if not place.is_dir() else place / "__init__.py"
    if not parts:
        return source.is_file()
    if dotted.startswith("fabric.") and dotted.split(".")[1] in fabric.__all__:
        return True
    return len(parts) == 1 and source.is_file() and parts[0] in defined_in(source)


def defined_in(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


def test_the_architecture_page_has_a_line_for_every_module() -> None:
    written = {file for text in inline(ARCHITECTURE) for file in _FILE.findall(text)}
    modules = {str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert sorted(modules - written) == []


def test_the_architecture_page_has_the_layers_that_are_enforced() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert fenced(ARCHITECTURE, "text")[0].splitlines() == layers
    allowed = next(contract["ignore_imports"] for contract in contracts if "Ray is imported" in contract["name"])
    line = next(line for line in ARCHITECTURE.read_text(encoding="utf-8").splitlines() if line.startswith("- Ray is imported by"))
    assert set(_DOTTED.findall(line)) == {imported.partition(" ->")[0] for imported in allowed}


def test_every_extension_page_is_linked_from_the_architecture_and_the_readme() -> None:
    pages = {page.name for page in (ROOT / "docs" / "extend").glob("*.md")}
    assert {"add-a-flavor.md", "add-a-tier.md", "add-a-discovery-plugin.md", "add-a-fingerprint-rule.md"} <= pages
    for linking in (ARCHITECTURE, ROOT / "README.md"):
        linked = {Path(link).name for link in _LINK.findall(linking.read_text(encoding="utf-8")) if "extend/" in link}
        assert linked == pages


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = {ROOT / "README.md"}, [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            found = sorted(target.glob("*.md")) if target.is_dir() else [target] if target.suffix == ".md" else []
            waiting += [new for new in found if new not in reached]
            reached.update(found)
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached] == []


def test_decisions_are_numbered_without_gaps_and_short() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(f"# {int(page.name[:4])}. ")
        assert len(lines) <= 40, f"{page.name}: half a page is enough"


def test_the_readme_has_every_reason_code_with_its_words() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [code for code, words in WORDS.items() if f"`{code}` | {words} |" not in text] == []


def test_the_readme_stays_short() -> None:
    lines = _FENCE.sub("", (ROOT / "README.md").read_text(encoding="utf-8")).splitlines()
    assert len(lines) <= 128, "details belong in docs/"


# -- commands --------------------------------------------------------------------------------------------------------------


def commands_in(page: Path) -> Iterator[str]:
    """Each `fabric …` of a page: in back-quotes, and at the start of a line or inside `$(…)` of a shell block."""
    yield from (text for text in inline(page) if text.startswith("fabric "))
    for block in fenced(page, "bash"):
        for line in block.splitlines():
            if line.startswith("fabric "):
                yield line.partition("#")[0]
            yield from re.findall(r"\$\((fabric [^)]+)\)", line)


def mistake_in(command: str) -> str | None:
    """What the command line does not know of it; None where all is known."""
    words = shlex.split(command)[1:]
    words = words[: words.index("--")] if "--" in words else words  # what follows is another program's
    at: click.Command = cli
    context = click.Context(cli)
    while words and isinstance(at, LazyGroup) and not words[0].startswith("-"):
        if words[0][0] in "…<":  # any of its commands is meant
            return None
        found = at.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]!r}"
        at, words = found, words[1:]
    known = {option for parameter in at.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h", "--version"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else None


@named(PAGES)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    assert {command: mistake for command in commands_in(page) if (mistake := mistake_in(command))} == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert mistake_in("fabric upp") == "no command 'upp'"
    assert mistake_in("fabric node drian x") == "no command 'drian'"
    assert mistake_in("fabric status --jsn") == "no option --jsn"
    assert mistake_in("fabric node drain x --deadline 10m -y") is None
    assert mistake_in("fabric submit --gpu 1 -- python train.py --lr 3") == "no option --gpu"
    assert mistake_in("fabric submit --gpus 1 -- python train.py --lr 3") is None


def test_every_command_is_in_the_readme_and_on_its_own_page() -> None:
    def leaves(group: LazyGroup, prefix: str) -> Iterator[str]:
        for name in group.table:
            found = group.get_command(click.Context(group), name)
            if isinstance(found, LazyGroup):
                yield from leaves(found, f"{prefix} {name}")
            else:
                yield f"{prefix} {name}"

    assert isinstance(cli, LazyGroup)
    for page in (ROOT / "README.md", ROOT / "docs" / "cli.md"):
        text = page.read_text(encoding="utf-8")
        assert [command for command in leaves(cli, "fabric") if f"`{command}" not in text] == [], page.name


# -- Python ----------------------------------------------------------------------------------------------------------------


@named([page for page in PAGES if fenced(page, "python")])
def test_the_python_of_a_page_is_python(page: Path) -> None:
    for block in fenced(page, "python"):
        compile(block, str(page), "exec")


def test_the_rule_of_the_fingerprint_page_gives_what_the_page_prints() -> None:
    page = ROOT / "docs" / "extend" / "add-a-fingerprint-rule.md"
    (program,), (printed,) = fenced(page, "python"), fenced(page, "text")
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == printed


# -- settings --------------------------------------------------------------------------------------------------------------


@named([page for page in PAGES if fenced(page, "yaml")])
def test_the_yaml_of_a_page_is_a_valid_configuration(page: Path, tmp_path: Path) -> None:
    merged: dict[str, Any] = {}
    for block in fenced(page, "yaml"):  # the blocks of a page build on each other
        document = yaml.safe_load(block)
        if document.get("kind") == "HybridPolicy":  # a policy stands alone
            read_policy(block, catalogue=load_catalogue())
        elif document.get("kind") == "Rollout":
            read_rollout(block)
        elif document.get("kind") == "TaskScheduler":  # so does a configuration as an object
            (tmp_path / "object.yaml").write_text(block, encoding="utf-8")
            load_config(tmp_path / "object.yaml", environ={})
        else:
            merged |= document
    file = tmp_path / "fabric.yaml"
    file.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")
    config = load_config(file, environ={}).config
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    assert {pool.flavor for pool in config.twin.values()} <= set(catalogue)


def settings(model: type[BaseModel], prefix: str = "") -> dict[str, tuple[str, Any]]:
    """Key -> (type in the page's words, default), groups opened: `tiers[].name`, `twin.<tier>.units`."""
    found: dict[str, tuple[str, Any]] = {}
    for name, field in model.model_fields.items():
        kind, inner = described(field.annotation)
        if inner is not None and kind == "group":
            found |= settings(inner, f"{prefix}{name}.")
            continue
        found[f"{prefix}{name}"] = (kind, field.default)
        if inner is not None:
            found |= settings(inner, f"{prefix}{name}{'[]' if kind == 'list' else '.<tier>'}.")
    return found


def described(annotation: Any) -> tuple[str, type[BaseModel] | None]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return described(next(argument for argument in arguments if argument is not type(None)))
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments), None
    if origin in (tuple, dict):
        inner = arguments[0 if origin is tuple else 1]
        is_model = isinstance(inner, type) and issubclass(inner, BaseModel)
        return ("list" if origin is tuple else "mapping"), inner if is_model else None
    if issubclass(annotation, BaseModel):
        return "group", annotation
    return {str: "text", bool: "true or false", int: "whole number", float: "number", Path: "path"}[annotation], None


def rows_of(page: Path) -> dict[str, list[str]]:
    rows = [row.split(" | ") for row in _ROW.findall(page.read_text(encoding="utf-8"))]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) == 4 and row[0].startswith("`")}


def test_every_setting_has_its_row_and_every_row_is_a_setting() -> None:
    assert list(rows_of(CONFIGURATION)) == list(settings(FabricConfig))


def test_the_types_and_defaults_of_the_page_are_those_of_the_code() -> None:
    rows = rows_of(CONFIGURATION)
    for key, (kind, default) in settings(FabricConfig).items():
        shown_kind, shown_default, meaning = rows[key]
        assert shown_kind == kind, key
        assert meaning, key
        if default is PydanticUndefined:
            # A factory's value is told in words: an empty collection, or one that depends on the machine.
            assert shown_default in ("required", "`{}`", "your login name", "one pool for each of `hot`, `warm`, `cold`"), key
        elif key == "tiers":
            assert shown_default == ", ".join(f"`{tier.name}`" for tier in default)
        else:
            plain = str(default) if isinstance(default, Path) else list(default) if isinstance(default, tuple) else default
            assert shown_default == f"`{json.dumps(plain)}`", key
