"""Mirrors a directory (a job's checkpoints) to the artefact store and back.

The files of a mirror are named by their content and a manifest, written last, says which of them count. Invariants: whatever
crashes half-way, the mirror is the last whole one; only what changed travels (by size and time of change, as rsync does); no file
and no link of it leads out of the directory. One writer per mirror at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from fabric.artefacts import ArtefactStore, Digest, digest_of
from fabric.errors import RuntimeFault, UserError
from fabric.links import is_plain, stays_inside, target_inside

MANIFEST_VERSION = 1
_MAX_PASSES = 3
_NUM_THREADS = 4
# A file that changed so shortly before it was listed may change again without its time of change showing it.
_RACY_NS = 2_000_000_000


class Synced(NamedTuple):
    """`num_sent` files of `bytes_sent` bytes travelled. `left_out`: links that lead out, sockets and the like."""

    num_files: int
    num_sent: int
    bytes_sent: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One path of a mirror, relative to its top."""

    kind: Literal["file", "dir", "link"]
    size: int = 0
    mtime_ns: int = 0
    mode: int = 0
    digest: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """`listed_ns`: the clock when the directory was listed."""

    items: Mapping[str, Item] = field(default_factory=dict)
    listed_ns: int = 0

    def digest_if_same(self, path: str, now: Item) -> str:
        """The digest that the file had, where it has not changed since; else empty."""
        then = self.items.get(path)
        is_same = then is not None and (then.kind, then.size, then.mtime_ns) == (now.kind, now.size, now.mtime_ns)
        return then.digest if then is not None and is_same and then.mtime_ns < self.listed_ns - _RACY_NS else ""


def sync_up(store: ArtefactStore, local_dir: Path, key: str) -> Synced:
    """Make the mirror at `key` what the directory is, deletions too; the one before stays usable until this one is whole.

    A directory that is missing or has no file leaves the mirror as it is: nothing is no checkpoint. A file that is written to
    meanwhile is stored as it was at some moment.

    Raises: UserError (`file_unreadable`), RuntimeFault as the store.
    """
    before = _read_manifest(store, key) or Manifest()
    done, sent = before, dict[str, int]()
    for _ in range(_MAX_PASSES):
        listed_ns = time.time_ns()
        listed, left_out = _listed(local_dir)
        if not any(item.kind == "file" for item in listed.values()):
            return Synced(0, 0, 0, left_out)
        done = _uploaded(store, local_dir, key, Manifest(listed, listed_ns), done, sent)
        if _listed(local_dir)[0] == listed:
            break
    store.write_text(f"{key}/manifest.json", _written(done))
    _forget(store, key, done)
    num_files = sum(item.kind == "file" for item in done.items.values())
    return Synced(num_files, len(sent), sum(sent.values()), left_out)


def sync_down(store: ArtefactStore, key: str, local_dir: Path) -> Synced | None:
    """Make the directory what the mirror is, deletions too. None where there is no mirror; the directory is left alone then.

    Raises: RuntimeFault (`mirror_broken`, `artefact_corrupt`, or as the store).
    """
    mirror = _read_manifest(store, key)
    if mirror is None:
        return None
    local_dir.mkdir(parents=True, exist_ok=True)
    here, odd = _listed(local_dir)
    _clear(local_dir, odd, here, mirror)
    for path, item in mirror.items.items():
        if item.kind == "dir":
            (local_dir / path).mkdir(exist_ok=True)

    def fetch(path: str) -> int:
        item, target = mirror.items[path], local_dir / path
        if path in here and mirror.digest_if_same(path, here[path]):
            return 0
        store.fetch(_file_key(key, item.digest), target, Digest(item.digest))
        target.chmod(item.mode | stat.S_IRUSR | stat.S_IWUSR)
        os.utime(target, ns=(item.mtime_ns, item.mtime_ns))
        return 1

    files = [path for path, item in mirror.items.items() if item.kind == "file"]
    try:
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            fetched = [path for path, is_new in zip(files, pool.map(fetch, files), strict=True) if is_new]
        for path, item in mirror.items.items():
            if item.kind == "link" and not (local_dir / path).is_symlink():
                (local_dir / path).symlink_to(item.target)
    except UserError as error:  # the manifest names a file that is not there
        raise RuntimeFault(f"mirror {key}: {error.message}", code="mirror_broken", key=key) from error
    return Synced(len(files), len(fetched), sum(mirror.items[path].size for path in fetched))


# -- the directory ---------------------------------------------------------------------------------------------------------


def _listed(local_dir: Path) -> tuple[dict[str, Item], tuple[str, ...]]:
    """What is in the directory by relative path, parents before children; and what cannot be mirrored."""
    found: dict[str, Item] = {}
    left_out: list[str] = []
    for path in _walked(local_dir):
        relative = path.relative_to(local_dir).as_posix()
        try:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                found[relative] = Item("dir")
            elif stat.S_ISREG(status.st_mode):
                found[relative] = Item("file", status.st_size, status.st_mtime_ns, stat.S_IMODE(status.st_mode) & 0o777)
            elif stat.S_ISLNK(status.st_mode) and (target := target_inside(local_dir, path)) is not None:
                found[relative] = Item("link", target=target)
            else:
                left_out.append(relative)
        except FileNotFoundError:
            continue  # a file of the moment
    return found, tuple(left_out)


def _walked(top: Path) -> Iterator[Path]:
    try:
        with os.scandir(top) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in inside:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walked(Path(entry.path))


def _clear(local_dir: Path, odd: tuple[str, ...], here: Mapping[str, Item], mirror: Manifest) -> None:
    """Delete what the mirror does not have, or has as something else; children before parents."""
    for path in odd:
        (local_dir / path).unlink(missing_ok=True)
    for path in reversed(list(here)):
        item = here[path]
        wanted = mirror.items.get(path)
        if wanted is not None and wanted.kind == item.kind and wanted.target == item.target:
            continue
        if item.kind == "dir":
            (local_dir / path).rmdir()
        else:
            (local_dir / path).unlink(missing_ok=True)


# -- the store -------------------------------------------------------------------------------------------------------------


def _uploaded(store: ArtefactStore, local_dir: Path, key: str, listed: Manifest, before: Manifest, sent: dict[str, int]) -> Manifest:
    def upload(path: str) -> Item | None:
        item = listed.items[path]
        if item.kind != "file":
            return item
        if digest := before.digest_if_same(path, item):
            return replace(item, digest=digest)
        try:
            digest, size, is_new = _stored(store, local_dir / path, key)
        except (UserError, FileNotFoundError):
            if (local_dir / path).exists():
                raise
            return None
        if is_new:
            sent[path] = size
        return replace(item, digest=digest, size=size)

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        items = dict(zip(listed.items, pool.map(upload, listed.items), strict=True))
    return Manifest({path: item for path, item in items.items() if item is not None}, listed.listed_ns)


def _stored(store: ArtefactStore, file: Path, key: str) -> tuple[Digest, int, bool]:
    """Digest, bytes, and whether it was sent."""
    try:
        digest, size = digest_of(file), file.stat().st_size
        return digest, size, store.upload(_file_key(key, digest), file, digest)
    except UserError as error:
        if error.code != "file_changed":
            raise
    # Something writes to it: store a copy of this moment.
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(shutil.copyfile(file, Path(directory) / "copy"))
        digest, size = digest_of(copy), copy.stat().st_size
        return digest, size, store.upload(_file_key(key, digest), copy, digest)


def _forget(store: ArtefactStore, key: str, mirror: Manifest) -> None:
    """Delete the files that no longer count."""
    wanted = {_file_key(key, item.digest) for item in mirror.items.values() if item.digest}
    for entry in store.entries(f"{key}/files"):
        if entry.key not in wanted:
            store.delete(entry.key)


def _file_key(key: str, digest: str) -> str:
    return f"{key}/files/{digest}"


def _written(mirror: Manifest) -> str:
    items = {path: {name: value for name, value in asdict(item).items() if value} for path, item in mirror.items.items()}
    return json.dumps({"version": MANIFEST_VERSION, "listed_ns": mirror.listed_ns, "items": items})


def _read_manifest(store: ArtefactStore, key: str) -> Manifest | None:
    try:
        text = store.read_text(f"{key}/manifest.json")
    except UserError as error:
        if error.code != "artefact_not_found":
            raise
        return None
    try:
        read = json.loads(text)
        if read["version"] != MANIFEST_VERSION:
            raise ValueError(f"version {read['version']}")
        items = {path: Item(**item) for path, item in read["items"].items()}
        for path, item in items.items():
            _check(path, item, items)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RuntimeFault(f"mirror {key}: its manifest cannot be read: {error}", code="mirror_broken", key=key) from error
    return Manifest(items, int(read["listed_ns"]))


def _check(path: str, item: Item, items: Mapping[str, Item]) -> None:
    """Nothing may be written outside of the directory, whoever wrote the manifest. Raises: ValueError."""
    parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
    is_known = (
        item.kind in ("file", "dir", "link")
        and is_plain(path)
        and all(parent in items and items[parent].kind == "dir" for parent in parents)
    )
    if not is_known or (item.kind == "link" and not stays_inside(path, item.target)):
        raise ValueError(f"{path!r} leads out")
