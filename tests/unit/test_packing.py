"""Working directories as archives, calls as bytes: the same in, the same out; nothing leads out; what is too large is named."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.artefacts import digest_of
from fabric.errors import FabricError, RuntimeFault, UserError
from fabric.ignored import belonging
from fabric.links import is_plain, stays_inside
from fabric.packing import Packed, pack, unpack
from fabric.payload import pack_callable, unpack_callable


def tree(root: Path, files: dict[str, str | bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def packed(root: Path, tmp_path: Path, **options: Any) -> Packed:
    into = tmp_path / "archives"
    into.mkdir(exist_ok=True)
    return pack(root, into, **options)


def names_in(archive: Packed) -> list[str]:
    with tarfile.open(archive.path) as tar:
        return sorted(member.name for member in tar if not member.isdir())


def refused(root: Path, tmp_path: Path, **options: Any) -> FabricError:
    with pytest.raises(FabricError) as caught:
        packed(root, tmp_path, **options)
    assert list((tmp_path / "archives").iterdir()) == [], "no half-written archive is left"
    return caught.value


# -- there and back --------------------------------------------------------------------------------------------------------


def test_what_is_packed_is_what_is_unpacked(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "work", {"train.py": "print()", "pkg/__init__.py": "", "data/a b/é.bin": b"\0" * 3000, "x" * 200 + ".txt": "long"}
    )
    (root / "empty").mkdir()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o700)
    (root / "latest").symlink_to("pkg")
    (root / "pkg" / "up.py").symlink_to("../train.py")
    archive = packed(root, tmp_path)
    unpack(archive.path, tmp_path / "there")
    for path in sorted(root.rglob("*")):
        twin = tmp_path / "there" / path.relative_to(root)
        assert (twin.is_symlink(), twin.is_dir(), twin.is_file()) == (path.is_symlink(), path.is_dir(), path.is_file())
        assert not path.is_file() or twin.read_bytes() == path.read_bytes()
    assert os.access(tmp_path / "there" / "run.sh", os.X_OK)
    assert time.time() - (tmp_path / "there" / "train.py").stat().st_mtime < 600, "new here, and not of 1970"
    assert not os.access(tmp_path / "there" / "train.py", os.X_OK)
    assert (archive.num_files, archive.content_bytes) == (5, 3000 + 7 + 4 + 10)
    assert archive.size_bytes == archive.path.stat().st_size
    assert archive.digest == digest_of(archive.path)


def test_a_file_name_that_is_no_text_travels(tmp_path: Path) -> None:
    root = tree(tmp_path / "work", {})
    odd = os.fsdecode(b"caf\xe9.bin")
    (root / odd).write_bytes(b"x")
    unpack(packed(root, tmp_path).path, tmp_path / "there")
    assert (tmp_path / "there" / odd).read_bytes() == b"x"


def test_an_unchanged_directory_has_the_same_digest_wherever_and_whenever(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"b.py": "b", "a/c.py": "c", "a.py": "a"}
    one = tree(tmp_path / "one", files)
    two = tree(tmp_path / "two", dict(reversed(files.items())))
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
    (two / "b.py").chmod(0o600)
    (two / "__pycache__").mkdir()
    (two / "__pycache__" / "b.cpython-311.pyc").write_bytes(b"made by running it")
    assert packed(one, tmp_path).digest == packed(two, tmp_path).digest
    (two / "b.py").write_text("B")
    assert packed(one, tmp_path).digest != packed(two, tmp_path).digest


def test_what_does_not_shrink_is_stored_and_the_rest_is_compressed(tmp_path: Path) -> None:
    noise, text = random.Random(1).randbytes(300_000), b"spam and eggs\n" * 20_000
    root = tree(tmp_path / "work", {"a.txt": text, "b.bin": noise, "c.txt": text, "d.bin": noise, "e": b"small"})
    archive = packed(root, tmp_path)
    assert 600_000 < archive.size_bytes < 620_000
    assert archive.path.read_bytes().count(noise[:10_000]) == 2, "as it is"
    unpack(archive.path, tmp_path / "there")
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == {
        path.name: path.read_bytes() for path in root.iterdir()
    }
    assert packed(root, tmp_path).digest == archive.digest


def test_an_empty_directory_is_a_working_directory(tmp_path: Path) -> None:
    archive = packed(tree(tmp_path / "work", {}), tmp_path)
    assert (archive.num_files, archive.largest) == (0, ())
    unpack(archive.path, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


# -- what is left out ------------------------------------------------------------------------------------------------------


def test_gitignore_is_honoured_at_every_depth(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "work",
        {
            ".gitignore": "\ufeff*.log\n/data/\n!keep.log\n!\n# a comment\n",
            "a.log": "",
            "keep.log": "",
            "data/huge.bin": "",
            "src/data/kept.bin": "",
            "src/.gitignore": "*.bin\n!a.log\n",
            "src/a.log": "",
            "src/b.log": "",
            "src/x.bin": "",
            ".git/config": "",
            "src/.git/config": "",
        },
    )
    assert names_in(packed(root, tmp_path)) == [".gitignore", "keep.log", "src/.gitignore", "src/a.log"]


def test_within_a_repository_the_gitignore_above_counts(tmp_path: Path) -> None:
    tree(tmp_path, {".gitignore": "*.never", "repo/.git/HEAD": "", "repo/.gitignore": "*.ckpt\nout/\n"})
    root = tree(tmp_path / "repo" / "examples" / "train", {"a.py": "", "b.ckpt": "", "out/c.py": "", "d.never": ""})
    (tmp_path / "link").symlink_to(root)
    for way in (root, tmp_path / "link", root / ".." / "train"):
        assert names_in(packed(way, tmp_path)) == ["a.py", "d.never"]


def test_an_ignored_directory_that_is_named_is_meant(tmp_path: Path) -> None:
    tree(tmp_path, {"repo/.git/HEAD": "", "repo/.gitignore": "build/\n"})
    root = tree(tmp_path / "repo" / "build", {"a.py": ""})
    assert names_in(packed(root, tmp_path)) == ["a.py"]


_NAMES = ["a", "b", "c.py", "d.log", "build", "data", "x y"]
_PATTERNS = [
    *(
        "a",
        "b/",
        "*.log",
        "!*.log",
        "/a",
        "/build/",
        "build",
        "data/*",
        "!data/c.py",
        "**/b",
        "a/**",
        "a/**/b",
        "*",
        "!*/",
        "!c.py",
        "?",
        "[ab]",
    ),
    *("# x", "\\#", "x\\ y", "x*", "!a/", "/b/*", "!", "a/b", "*.py", "d.log/", "!/a/b", "[!a]*", "a ", "a\\ ", ""),
]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("seed", range(25))
def test_git_leaves_out_the_same_files(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    directories = [tmp_path]
    for _ in range(rng.randint(0, 6)):
        new = rng.choice(directories) / rng.choice(_NAMES)
        if not new.exists():
            new.mkdir()
            directories.append(new)
    for _ in range(rng.randint(4, 14)):
        file = rng.choice(directories) / rng.choice(_NAMES)
        if not file.exists():
            file.write_text("x")
    for directory in directories:
        if rng.random() < 0.5:
            (directory / ".gitignore").write_text("\n".join(rng.choices(_PATTERNS, k=rng.randint(1, 4))) + "\n")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True, timeout=30)
    listed = subprocess.run(
        [*git, "ls-files", "-o", "--exclude-standard", "-z"], check=True, timeout=30, capture_output=True, text=True
    ).stdout
    ours = {os.path.relpath(entry.path, tmp_path) for entry in belonging(tmp_path) if entry.is_file()}
    assert ours == set(filter(None, listed.split("\0")))


def test_links_and_oddities_that_lead_out_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    root = tree(tmp_path / "work", {"in.txt": "in", "sub/a": "a"})
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "home").symlink_to(root / "in.txt")
    (root / "climbs").symlink_to("sub/../sub/a")
    (root / "chain").symlink_to("out")
    (root / "top").symlink_to(".")
    (root / "sub" / "dangling").symlink_to("gone")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket is at most 108 bytes
        server.bind("socket")
        os.chdir(here)
        archive = packed(root, tmp_path)
    assert sorted(archive.left_out) == ["absolute", "chain", "out", "pipe", "socket"]
    unpack(archive.path, tmp_path / "there")
    there = tmp_path / "there"
    assert {name: str((there / name).readlink()) for name in ("home", "climbs", "top", "sub/dangling")} == {
        "home": "in.txt",
        "climbs": "sub/a",
        "top": ".",
        "sub/dangling": "gone",
    }


# -- what is refused -------------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_with_the_ten_biggest_and_before_it_is_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "work", {f"f{i:02}": b"x" * (i * 1000) for i in range(12)})
    with (root / "model.bin").open("wb") as file:
        file.truncate(600 * 2**20)  # a hole: reading it would take seconds
    error = refused(root, tmp_path)
    assert (error.code, error.exit_status) == ("working_dir_too_large", 2)
    assert "model.bin (600.0 MiB), f11" in error.message
    assert [path for path, _ in error.largest] == ["model.bin", *(f"f{i:02}" for i in range(11, 2, -1))]
    assert ".gitignore" in (error.hint or "")
    (root / ".gitignore").write_text("*.bin\n")
    assert packed(root, tmp_path).largest[0].path == "f11"


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    root = tree(tmp_path / "work", {"a": b"x" * 10})
    assert packed(root, tmp_path, limit_bytes=10).content_bytes == 10
    shutil.rmtree(tmp_path / "archives")
    assert refused(root, tmp_path, limit_bytes=9).code == "working_dir_too_large"


def test_what_is_not_there_or_no_directory_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none", tmp_path).code == "working_dir_not_found"
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file", tmp_path).code == "working_dir_not_found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "work", {"sub/secret": "s"})
    (root / "sub" / "secret").chmod(0)
    error = refused(root, tmp_path)
    assert (error.code, "sub/secret" in error.message) == ("working_dir_unreadable", True)


@pytest.mark.parametrize("change", ["grow", "shrink", "delete"])
def test_a_file_that_changes_while_it_is_packed_is_not_packed_in_part(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "work", {"a": b"x" * 100, "b": b"x" * 100})
    listing = belonging

    def then_change(directory: Path) -> Any:
        yield from listing(directory)
        (root / "b").unlink() if change == "delete" else (root / "b").write_bytes(b"x" * (101 if change == "grow" else 99))

    monkeypatch.setattr("fabric.packing.belonging", then_change)
    error = refused(root, tmp_path)
    assert (error.code, "b changed" in error.message) == ("working_dir_changed", True)


# -- archives that others wrote --------------------------------------------------------------------------------------------


def archive_of(tmp_path: Path, *members: tuple[str, bytes, str], content: bytes = b"boo") -> Path:
    file = tmp_path / "evil.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    return file


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, "")],
        [("/tmp/evil", tarfile.REGTYPE, "")],
        [("a/../../evil", tarfile.REGTYPE, "")],
        [("./a", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, "..")],
        [("out", tarfile.SYMTYPE, "/etc")],
        [("a/out", tarfile.SYMTYPE, "../../x")],
        [("d/e", tarfile.SYMTYPE, ".."), ("x", tarfile.SYMTYPE, "d/e/..")],
        [("d", tarfile.SYMTYPE, "."), ("d/evil", tarfile.REGTYPE, "")],
        [("d/evil", tarfile.REGTYPE, ""), ("d", tarfile.SYMTYPE, ".")],
        [("d", tarfile.SYMTYPE, "."), ("d/x", tarfile.SYMTYPE, "../y")],
        [("a", tarfile.REGTYPE, ""), ("a", tarfile.SYMTYPE, "b")],
        [("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [("null", tarfile.CHRTYPE, "")],
        [("pipe", tarfile.FIFOTYPE, "")],
    ],
)
def test_an_archive_that_leads_out_unpacks_nothing(tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
    archive = archive_of(tmp_path, ("good", tarfile.REGTYPE, ""), *members)
    target = tmp_path / "deep" / "there"
    with pytest.raises(RuntimeFault) as caught:
        unpack(archive, target)
    assert caught.value.code == "archive_broken"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "evil.tar.gz"], "nothing was unpacked anywhere"


def test_an_archive_that_is_cut_or_none_at_all_unpacks_nothing(tmp_path: Path) -> None:
    whole = packed(tree(tmp_path / "work", {"a": os.urandom(50_000)}), tmp_path).path.read_bytes()
    flipped = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
    for content in (
        whole[:20_000],
        whole[:-100],
        whole[:-4],
        flipped,
        b"not gzip at all",
        b"",
        whole[:1000] + b"\xff" * 1000 + whole[2000:],
    ):
        (tmp_path / "cut.tar.gz").write_bytes(content)
        with pytest.raises(RuntimeFault) as caught:
            unpack(tmp_path / "cut.tar.gz", tmp_path / "there")
        assert caught.value.code == "archive_broken"
        assert not (tmp_path / "there").exists()


def test_an_archive_that_grows_beyond_the_limit_unpacks_nothing(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, ("zeros", tarfile.REGTYPE, ""), content=b"\0" * 1_000_000)
    assert archive.stat().st_size < 5000
    with pytest.raises(RuntimeFault) as caught:
        unpack(archive, tmp_path / "there", limit_bytes=999_999)
    assert caught.value.code == "archive_broken"
    unpack(archive, tmp_path / "there", limit_bytes=1_000_000)


def test_a_directory_in_use_is_not_overwritten(tmp_path: Path) -> None:
    archive = packed(tree(tmp_path / "work", {"a": "new"}), tmp_path)
    there = tree(tmp_path / "there", {"a": "old"})
    with pytest.raises(RuntimeFault) as caught:
        unpack(archive.path, there)
    assert caught.value.code == "unpack_failed"
    assert (there / "a").read_text() == "old"
    (there / "a").unlink()
    unpack(archive.path, there)
    assert (there / "a").read_text() == "new"


names = st.lists(st.sampled_from(["a", "b", ".", "..", "", "c d"]), min_size=1, max_size=5).map("/".join)


@given(relative=names, target=names)
def test_a_link_that_is_let_through_resolves_inside(relative: str, target: str) -> None:
    if is_plain(relative) and stays_inside(relative, target):
        resolved = os.path.normpath(os.path.join("/top", os.path.dirname(relative), target))  # noqa: PTH118, PTH120
        assert resolved == "/top" or resolved.startswith("/top/")


# -- calls -----------------------------------------------------------------------------------------------------------------


def test_a_call_comes_back_as_it_was() -> None:
    factor = 3
    payload = pack_callable(lambda x, *, y: (x + y) * factor, (1,), {"y": 2})
    fn, args, kwargs = unpack_callable(payload)
    assert fn(*args, **kwargs) == 9


def test_a_large_argument_is_refused_by_name_and_not_copied_first(tmp_path: Path) -> None:
    big = np.zeros(200 * 10**6, dtype=np.uint8)

    def train(first: int, *, data: Any) -> None: ...

    with pytest.raises(UserError) as caught:
        pack_callable(train, (1,), {"data": big})
    assert caught.value.code == "argument_too_large"
    assert "larger than 100 MB; the largest argument is data (200 MB)" in caught.value.message
    assert "URL" in (caught.value.hint or "")
    with pytest.raises(UserError) as caught:
        pack_callable(train, (b"x" * 10**6, [big]))
    assert caught.value.code == "argument_too_large"


def test_the_limit_holds_for_many_small_arguments_too() -> None:
    with pytest.raises(UserError) as caught:
        pack_callable(print, tuple(str(i) * 10 for i in range(1000)), limit_bytes=10_000)
    assert (caught.value.code, "largest" in caught.value.message) == ("argument_too_large", False)


def test_what_cannot_be_pickled_is_refused_with_a_hint() -> None:
    with pytest.raises(UserError) as caught:
        pack_callable(print, (threading.Lock(),))
    assert (caught.value.code, "lock" in caught.value.message) == ("argument_not_picklable", True)
    with pytest.raises(UserError) as caught:
        pack_callable("python train.py")  # type: ignore[arg-type]
    assert caught.value.code == "not_callable"


def triple(number: int) -> int:
    return 3 * number


def test_a_function_of_the_callers_own_file_runs_where_that_file_is_not(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(pack_callable(triple, (14,)))
    code = f"import pickle; fn, args, kwargs = pickle.load(open({str(payload)!r}, 'rb')); print(fn(*args))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={}, check=False)
    assert done.stdout == "42\n", done.stderr
