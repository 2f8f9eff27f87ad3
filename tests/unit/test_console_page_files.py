"""What the console's page is made of: libraries as their registry has them, small enough, asking no other host, in step with the rest."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from fabric.console.lease_book import ENDS, MARKS
from fabric.console.page_files import KINDS, PAGE
from fabric.job_form import WHY
from fabric.states import JobState
from fabric.what_if_form import WHY_LEFT_OUT

MOST_BYTES = 300_000
FILES = sorted(file for file in PAGE.rglob("*") if file.suffix in KINDS)
VENDORED = [file for file in FILES if file.parent.name == "vendor"]
OURS = [file for file in FILES if file not in VENDORED]
IMPORT = re.compile(r'\b(?:import|export)\b[^;"]*?\bfrom\s*"(\.[^"]+)"')


def name_of(file: Path) -> str:
    return file.resolve().relative_to(PAGE.resolve()).as_posix()


def imported(file: Path, found: set[str]) -> set[str]:
    """Adds what `file` imports, directly or not; what is loaded later, by `import(…)`, is not among it."""
    for target in IMPORT.findall(file.read_text()):
        other = file.parent / target
        if name_of(other) not in found:
            found.add(name_of(other))
            imported(other, found)
    return found


def keys_of(constant: str, file: str = "lib/words.js") -> list[str]:
    body = re.search(rf"const {constant} = \{{\n(.*?)\n\}};", (PAGE / file).read_text(), re.DOTALL)
    assert body, constant
    return re.findall(r"^  (\w+):", body.group(1), re.MULTILINE)


def test_every_library_is_the_one_that_its_readme_names() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|$", (PAGE / "vendor/README.md").read_text(), re.MULTILINE))
    assert rows == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in VENDORED}


def test_the_licence_of_every_library_travels_with_it() -> None:
    text = (PAGE / "vendor/LICENSES").read_text()
    assert [file.name for file in VENDORED if f"{file.name}," not in text and f"{file.name})" not in text] == []


def test_all_that_the_page_could_ask_is_small() -> None:
    assert sum(len(gzip.compress(file.read_bytes(), mtime=0)) for file in FILES) < MOST_BYTES


def test_what_the_page_imports_is_fetched_at_once() -> None:
    preloaded = re.findall(r'<link rel="modulepreload" href="([^"]+)" />', (PAGE / "index.html").read_text())
    wanted = sorted(imported(PAGE / "main.js", set()))
    assert preloaded == wanted, "index.html should list:\n" + "\n".join(
        f'    <link rel="modulepreload" href="{name}" />' for name in wanted
    )


def test_no_file_of_the_page_is_left_unused() -> None:
    html = (PAGE / "index.html").read_text()
    scripts = imported(PAGE / "main.js", {"main.js"}) | {"vendor/uplot.js"}
    for later in re.findall(r'import\("\./([^"]+)"\)', (PAGE / "app.js").read_text()):
        scripts |= imported(PAGE / later, {later})
    assert [
        name_of(file) for file in FILES if name_of(file) not in scripts and name_of(file) not in html and file.name != "index.html"
    ] == []


@pytest.mark.parametrize("file", OURS, ids=name_of)
def test_no_file_names_another_host_or_writes_markup_from_strings(file: Path) -> None:
    text = file.read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
    # Neither passes the content policy: an attribute of style in markup, a script in the document.
    assert re.findall(r'style="|<script(?! type="module" src=)|\son\w+="', text) == []


def test_the_page_has_words_for_every_reason_state_end_and_mark() -> None:
    assert keys_of("WHY") == list(WHY)
    assert keys_of("STATES") == [state.value for state in JobState]
    assert keys_of("LEFT_OUT", "views/what_if.js") == list(WHY_LEFT_OUT)
    assert sorted(keys_of("BARS")) == sorted(ENDS)
    assert sorted(keys_of("MARKS")) == sorted(MARKS)


def test_every_colour_has_a_light_and_a_dark_one() -> None:
    light, dark = (PAGE / "style/colours.css").read_text().split(':root[data-theme="dark"]')
    names = [set(re.findall(r"^  (--[\w-]+):", half, re.MULTILINE)) for half in (light, dark)]
    assert names[0] == names[1]


def test_every_colour_that_is_asked_for_is_there() -> None:
    known = set(re.findall(r"^  (--[\w-]+):", (PAGE / "style/colours.css").read_text(), re.MULTILINE))
    used = {name for file in OURS if file.suffix == ".css" for name in re.findall(r"var\((--[\w-]+)\)", file.read_text())}
    assert used - known == set()
