"""The artefact store, its logs and its mirrors: whole or not at all, the same again does nothing, and no way out."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.artefacts import ArtefactStore, Digest, Entry, digest_of
from fabric.errors import ConfigError, FabricError, RuntimeFault, UserError
from fabric.mirror import Synced, sync_down, sync_up
from fabric.stored_log import CHUNK_BYTES, StoredLog

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path / 'storage'}"
        return
    name = uuid.uuid4().hex
    yield f"memory://{name}/fabric"
    with_files = fsspec.filesystem("memory")
    if with_files.exists(f"/{name}"):
        with_files.rm(f"/{name}", recursive=True)


@pytest.fixture
def store(url: str) -> ArtefactStore:
    return ArtefactStore(url)


def everything_in(url: str) -> list[str]:
    """Every file below the store's root, whoever it belongs to."""
    fs, root = fsspec.url_to_fs(url)
    return sorted(path.removeprefix(root).lstrip("/") for path in fs.find(root))


def refused(call: Callable[[], object]) -> FabricError:
    with pytest.raises(FabricError) as caught:
        call()
    return caught.value


# -- blobs -----------------------------------------------------------------------------------------------------------------


def test_a_blob_is_named_by_its_content_and_comes_back(store: ArtefactStore, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 7)
    (tmp_path / "file").write_bytes(content)
    digest = store.put(content)
    assert digest == hashlib.sha256(content).hexdigest() == store.put(tmp_path / "file") == store.put(tmp_path / "file", digest)
    with store.open(digest) as file:
        assert file.read() == content
    local = store.localise(digest, tmp_path / "cache")
    assert (local, local.read_bytes()) == (tmp_path / "cache" / digest, content)
    assert [path.name for path in local.parent.iterdir()] == [digest]


def test_a_blob_that_is_there_is_not_written_again(store: ArtefactStore, url: str) -> None:
    digest = store.put(b"once")
    fs, root = fsspec.url_to_fs(url)
    (path,) = fs.find(root)
    fs.pipe_file(path, b"mark")
    assert store.put(b"once") == digest
    assert fs.cat_file(path) == b"mark"
    assert len(everything_in(url)) == 1


def test_a_blob_that_was_tampered_with_is_not_handed_out(store: ArtefactStore, url: str, tmp_path: Path) -> None:
    digest = store.put(b"true")
    fs, root = fsspec.url_to_fs(url)
    fs.pipe_file(fs.find(root)[0], b"false")
    error = refused(lambda: store.localise(digest, tmp_path / "cache"))
    assert (type(error), error.code) == (RuntimeFault, "artefact_corrupt")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_blob_fetched_once_is_not_fetched_again(store: ArtefactStore, url: str, tmp_path: Path) -> None:
    digest = store.put(b"x")
    first = store.localise(digest, tmp_path)
    fs, root = fsspec.url_to_fs(url)
    fs.rm(root, recursive=True)
    assert store.localise(digest, tmp_path) == first


def test_what_is_not_there_is_an_error_and_not_a_fault(store: ArtefactStore, tmp_path: Path) -> None:
    nothing = Digest("0" * 64)
    assert not store.has(nothing)
    for call in (lambda: store.open(nothing), lambda: store.localise(nothing, tmp_path), lambda: store.read_bytes("logs/none")):
        error = refused(call)
        assert (isinstance(error, UserError), error.code) == (True, "artefact_not_found")


@pytest.mark.parametrize("digest", ["", "0" * 63, "../" + "0" * 61, "Z" * 64, "0" * 64 + "/x"])
def test_what_is_no_digest_is_refused(store: ArtefactStore, tmp_path: Path, digest: str) -> None:
    assert refused(lambda: store.open(Digest(digest))).code == "bad_key"
    assert refused(lambda: store.localise(Digest(digest), tmp_path)).code == "bad_key"


def test_a_file_that_is_not_its_digest_is_not_stored(store: ArtefactStore, url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"changed")
    assert refused(lambda: store.put(tmp_path / "file", Digest("0" * 64))).code == "file_changed"
    assert refused(lambda: store.put(tmp_path / "none")).code == "file_unreadable"
    assert everything_in(url) == []


def test_many_may_put_the_same_blob_at_once(store: ArtefactStore, url: str) -> None:
    content = os.urandom(500_000)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put(content), range(16)))
    assert len(digests) == len(everything_in(url)) == 1
    with store.open(digests.pop()) as file:
        assert file.read() == content


# -- keys ------------------------------------------------------------------------------------------------------------------


def test_keys_are_written_read_listed_and_deleted(store: ArtefactStore) -> None:
    for key, text in (("logs/a/1", "one"), ("logs/a/2", "zwei ü"), ("logs/ab/1", "ab"), ("other", "o")):
        store.write_text(key, text)
    store.put(b"a blob is no key")
    store.write_text("logs/a/1", "one again")
    assert (store.read_text("logs/a/1"), store.read_text("logs/a/2"), store.read_bytes("other")) == ("one again", "zwei ü", b"o")
    assert store.entries("logs/a") == (Entry("logs/a/1", 9), Entry("logs/a/2", 7))
    assert [entry.key for entry in store.entries()] == ["logs/a/1", "logs/a/2", "logs/ab/1", "other"]
    assert store.entries("other") == (Entry("other", 1),)
    assert store.entries("none") == ()
    assert (store.delete("logs/a"), store.delete("logs/a"), store.delete("other")) == (2, 0, 1)
    assert [entry.key for entry in store.entries()] == ["logs/ab/1"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "a\0b",
        "a\nb",
        "blobs/x",
        ".aside/x",
        "x" * 201,
        "x/" * 460 + "x",
    ],
)
def test_no_key_leads_out_or_to_what_is_not_a_keys(store: ArtefactStore, key: str) -> None:
    for call in (
        lambda: store.write_text(key, "x"),
        lambda: store.read_text(key),
        lambda: store.delete(key),
        lambda: store.fetch(key, Path("/nowhere"), Digest("0" * 64)),
    ):
        assert refused(call).code == "bad_key"
    if key:
        assert refused(lambda: store.entries(key)).code == "bad_key"


def test_links_in_the_store_are_not_listed(tmp_path: Path) -> None:
    store = ArtefactStore(f"file://{tmp_path / 'storage'}")
    store.write_text("logs/a", "x")
    (tmp_path / "storage" / "logs" / "link").symlink_to("/etc")
    assert [entry.key for entry in store.entries()] == ["logs/a"]


@pytest.mark.parametrize(
    ("url", "said"),
    [("/var/storage", "file:///var/storage"), ("~/x", f"file://{Path.home()}/x"), ("nonsense://x", ""), ("file:///", ""), ("", "file://")],
)
def test_what_is_no_url_of_a_store_is_refused(url: str, said: str) -> None:
    error = refused(lambda: ArtefactStore(url))
    assert (type(error), error.code) == (ConfigError, "bad_storage_url")
    assert said in (error.hint or "")


def test_a_local_store_is_private(tmp_path: Path) -> None:
    ArtefactStore(f"file://{tmp_path}/deep/storage")
    assert (tmp_path / "deep" / "storage").stat().st_mode & 0o077 == 0


def test_what_is_stored_is_on_disk_with_its_name_before_the_call_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    store = ArtefactStore(f"file://{tmp_path}/storage")
    monkeypatch.setattr(os, "fsync", noted)
    digest = store.put(b"x")
    assert ".aside" in synced[0]
    assert {str(tmp_path / "storage"), str(tmp_path / "storage" / "blobs")} <= set(synced), "the new directories' names, too"
    assert synced[-1] == str(tmp_path / "storage" / "blobs" / digest[:2])


# -- crashes and full disks ------------------------------------------------------------------------------------------------


@contextmanager
def files_no_larger_than(num_bytes: int) -> Iterator[None]:
    """What a full disk does to a writer, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_fault_with_a_hint_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = ArtefactStore(f"file://{tmp_path / 'storage'}")
    (tmp_path / "big").write_bytes(os.urandom(200_000))
    store.write_text("key", "old")
    before = everything_in(store.url)
    with files_no_larger_than(50_000):
        errors = [refused(lambda: store.put(os.urandom(200_000))), refused(lambda: store.put(tmp_path / "big"))]
        errors.append(refused(lambda: store.write_bytes("key", b"x" * 200_000)))
    assert {(type(error), error.code, error.hint) for error in errors} == {
        (RuntimeFault, "storage_full", "make room there, or set another storage_url")
    }
    assert everything_in(store.url) == before
    assert store.read_text("key") == "old"


def test_a_store_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(lambda: ArtefactStore(f"file://{tmp_path}/file/storage")).code == "storage_failed"


def test_a_writer_killed_half_way_leaves_no_blob_and_what_it_left_is_swept(tmp_path: Path) -> None:
    store = ArtefactStore(f"file://{tmp_path / 'storage'}")
    program = (
        "import os, sys\nfrom fabric.artefacts import ArtefactStore\n"
        "with ArtefactStore(sys.argv[1])._aside(sys.argv[2]) as file:\n    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    target = tmp_path / "storage" / "logs" / "x"
    ran = subprocess.run([sys.executable, "-c", program, store.url, str(target)], cwd=ROOT, timeout=60, check=False)
    assert ran.returncode == -9
    assert store.entries() == ()
    assert len(everything_in(store.url)) == 1
    assert (store.sweep(older_than_s=3600), store.sweep(older_than_s=0), store.sweep(older_than_s=0)) == (0, 1, 0)
    assert everything_in(store.url) == []


# -- logs ------------------------------------------------------------------------------------------------------------------


def test_a_log_grows_and_can_be_read_from_anywhere(store: ArtefactStore) -> None:
    log, whole = StoredLog(store, "logs/job/1"), os.urandom(2 * CHUNK_BYTES + 1000)
    at = 0
    for size in (10, 100_000, CHUNK_BYTES, 1, 2 * CHUNK_BYTES):
        at = log.append(whole[at : at + size], at)
    assert at == len(whole) == log.size()
    for offset in (0, 5, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 999):
        assert log.read(offset) == whole[offset:]
        assert log.read(offset, 300_000) == whole[offset : offset + 300_000]
    assert log.read(len(whole)) == log.read(len(whole) + 10**9) == StoredLog(store, "logs/none").read() == b""


def test_sending_again_changes_nothing_and_a_hole_is_refused(store: ArtefactStore) -> None:
    log = StoredLog(store, "logs/job/1")
    whole = os.urandom(CHUNK_BYTES + 500)
    log.append(whole, 0)
    assert log.append(whole[:100], 0) == 100, "sent again, less of it"
    assert log.append(whole[CHUNK_BYTES - 5 :], CHUNK_BYTES - 5) == len(whole)
    assert log.read() == whole
    for at in (len(whole) + 1, 5 * CHUNK_BYTES):
        assert refused(lambda at=at: log.append(b"x", at)).code == "log_gap"  # type: ignore[misc]
    assert log.read() == whole


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.integers(0, 400_000), st.booleans()), max_size=6),
    offset=st.integers(0, 900_000),
    limit=st.integers(1, 600_000),
)
def test_a_log_is_the_sum_of_its_pieces_however_they_are_sent(pieces: list[tuple[int, bool]], offset: int, limit: int) -> None:
    store = ArtefactStore(f"memory://{uuid.uuid4().hex}")
    log, whole = StoredLog(store, "log"), b""
    for size, is_sent_twice in pieces:
        piece = bytes([len(whole) % 251]) * size
        for _ in range(1 + is_sent_twice):
            assert log.append(piece, len(whole)) == len(whole) + size
        whole += piece
    assert log.read(offset, limit) == whole[offset : offset + limit]
    store.delete("log")


# -- mirrors ---------------------------------------------------------------------------------------------------------------


def settle(directory: Path) -> None:
    """As if all of it had been written some time ago."""
    long_ago = time.time() - 100
    for path in directory.rglob("*"):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def shape_of(directory: Path) -> dict[str, object]:
    return {
        path.relative_to(directory).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    top = tmp_path / "checkpoints"
    (top / "step-1" / "empty").mkdir(parents=True)
    (top / "step-1" / "weights").write_bytes(b"w" * 5000)
    (top / "step-1" / "run.sh").write_text("x")
    (top / "step-1" / "run.sh").chmod(0o750)
    (top / "latest").symlink_to("step-1")
    settle(top)
    return top


def test_a_checkpoint_goes_up_and_comes_down_as_it_was(store: ArtefactStore, checkpoint: Path, tmp_path: Path) -> None:
    assert sync_up(store, checkpoint, "checkpoints/j") == Synced(2, 2, 5001)
    there = tmp_path / "another" / "node"
    assert sync_down(store, "checkpoints/j", there) == Synced(2, 2, 5001)
    assert shape_of(there) == shape_of(checkpoint)
    assert (there / "step-1" / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (there / "step-1" / "weights").stat().st_mtime_ns == (checkpoint / "step-1" / "weights").stat().st_mtime_ns


def test_only_what_changed_travels_and_deletions_do_too(store: ArtefactStore, url: str, checkpoint: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    sync_up(store, checkpoint, "c")
    sync_down(store, "c", there)
    assert sync_up(store, checkpoint, "c") == Synced(2, 0, 0)
    assert sync_up(store, there, "c") == Synced(2, 0, 0), "the next node need not send again what it was given"
    (checkpoint / "step-2").mkdir()
    (checkpoint / "step-2" / "weights").write_bytes(b"v" * 700)
    (checkpoint / "latest").unlink()
    (checkpoint / "latest").symlink_to("step-2")
    (checkpoint / "step-1" / "run.sh").unlink()
    settle(checkpoint / "step-2")
    assert sync_up(store, checkpoint, "c") == Synced(2, 1, 700)
    assert len(everything_in(url)) == 3, "two files and the manifest: what no longer counts is gone"
    (there / "stray").mkdir()
    (there / "stray" / "file").touch()
    (there / "step-1" / "empty").rmdir()
    (there / "step-1" / "empty").symlink_to("/etc")
    assert sync_down(store, "c", there) == Synced(2, 1, 700)
    assert shape_of(there) == shape_of(checkpoint)


def test_a_file_changed_within_the_moment_it_was_stored_is_stored_again(store: ArtefactStore, tmp_path: Path) -> None:
    top = tmp_path / "c"
    top.mkdir()
    (top / "weights").write_bytes(b"one")
    before = (top / "weights").stat().st_mtime_ns
    sync_up(store, top, "c")
    (top / "weights").write_bytes(b"two")
    os.utime(top / "weights", ns=(before, before))
    assert sync_up(store, top, "c").num_sent == 1
    sync_down(store, "c", tmp_path / "there")
    assert (tmp_path / "there" / "weights").read_bytes() == b"two"


def test_without_a_mirror_nothing_is_touched_and_nothing_is_no_checkpoint(
    store: ArtefactStore, url: str, checkpoint: Path, tmp_path: Path
) -> None:
    assert sync_down(store, "c", checkpoint) is None
    assert (checkpoint / "step-1" / "weights").exists()
    assert sync_up(store, tmp_path / "none", "c") == Synced(0, 0, 0)
    assert everything_in(url) == []
    sync_up(store, checkpoint, "c")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert sync_up(store, empty, "c") == Synced(0, 0, 0)
    assert sync_down(store, "c", empty) == Synced(2, 2, 5001), "the last checkpoint is still there"


@pytest.mark.parametrize("num_writes", range(6))
def test_wherever_the_mirror_breaks_off_the_last_whole_one_is_restored(
    store: ArtefactStore, url: str, checkpoint: Path, tmp_path: Path, num_writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_up(store, checkpoint, "c")
    old = shape_of(checkpoint)
    for i in range(3):
        (checkpoint / f"new-{i}").write_bytes(bytes([i]) * 100)
    (checkpoint / "step-1" / "weights").write_bytes(b"changed")
    settle(checkpoint)
    left = [num_writes]
    whole_aside = ArtefactStore._aside

    @contextmanager
    def breaks_off(self: ArtefactStore, path: str) -> Iterator[object]:
        with whole_aside(self, path) as file:
            if left[0] == 0:
                raise OSError("the machine went down")
            left[0] -= 1
            yield file

    monkeypatch.setattr(ArtefactStore, "_aside", breaks_off)
    if num_writes < 5:  # four files and the manifest
        assert refused(lambda: sync_up(store, checkpoint, "c")).code == "storage_failed"
    else:
        sync_up(store, checkpoint, "c")
        old = shape_of(checkpoint)
    monkeypatch.undo()
    sync_down(store, "c", tmp_path / "there")
    assert shape_of(tmp_path / "there") == old
    sync_up(store, checkpoint, "c")
    assert len(everything_in(url)) == 6, "what the broken one left behind is used or gone"
    sync_down(store, "c", tmp_path / "there")
    assert shape_of(tmp_path / "there") == shape_of(checkpoint)


def test_a_file_that_is_written_to_all_the_time_does_not_stop_the_mirror(store: ArtefactStore, checkpoint: Path, tmp_path: Path) -> None:
    program = "import sys, time\nwith open(sys.argv[1], 'ab', buffering=0) as f:\n    while True:\n        f.write(b'line\\n')"
    writer = subprocess.Popen([sys.executable, "-c", program, str(checkpoint / "events")])
    try:
        while not (checkpoint / "events").exists():
            time.sleep(0.01)
        sync_up(store, checkpoint, "c")
    finally:
        writer.kill()
        writer.wait()
    sync_down(store, "c", tmp_path / "there")
    stored = (tmp_path / "there" / "events").read_bytes()
    assert stored
    assert (checkpoint / "events").read_bytes().startswith(stored)
    assert (tmp_path / "there" / "step-1" / "weights").read_bytes() == b"w" * 5000


def test_a_file_that_changes_between_two_looks_at_it_is_stored_as_it_was_at_one_moment(
    store: ArtefactStore, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = iter(range(20))

    def then_change(file: Path) -> Digest:
        digest = digest_of(file)
        if file == checkpoint / "step-1" / "weights":
            file.write_bytes(f"change {next(changes)}".encode())
        return digest

    monkeypatch.setattr("fabric.mirror.digest_of", then_change)
    sync_up(store, checkpoint, "c")
    monkeypatch.undo()
    sync_down(store, "c", tmp_path / "there")
    assert (tmp_path / "there" / "step-1" / "weights").read_bytes().startswith(b"change ")


def test_a_file_that_appears_while_the_mirror_is_made_is_in_it(
    store: ArtefactStore, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = ArtefactStore.upload

    def then_appear(self: ArtefactStore, key: str, source: Path, digest: Digest) -> bool:
        (checkpoint / "late").write_text("late")
        (checkpoint / "step-1" / "run.sh").unlink(missing_ok=True)
        return upload(self, key, source, digest)

    monkeypatch.setattr(ArtefactStore, "upload", then_appear)
    sync_up(store, checkpoint, "c")
    sync_down(store, "c", tmp_path / "there")
    assert shape_of(tmp_path / "there") == shape_of(checkpoint)
    assert "late" in shape_of(checkpoint)


def test_links_that_lead_out_and_oddities_do_not_travel(store: ArtefactStore, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "passwd").symlink_to("/etc/passwd")
    (checkpoint / "up").symlink_to("..")
    os.mkfifo(checkpoint / "pipe")
    assert sync_up(store, checkpoint, "c").left_out == ("passwd", "pipe", "up")
    sync_down(store, "c", tmp_path / "there")
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["latest", "step-1"]


def test_a_link_in_the_way_is_replaced_and_never_written_through(store: ArtefactStore, checkpoint: Path, tmp_path: Path) -> None:
    sync_up(store, checkpoint, "c")
    outside, there = tmp_path / "outside", tmp_path / "there"
    outside.mkdir()
    (outside / "weights").write_text("mine")
    there.mkdir()
    (there / "step-1").symlink_to(outside)
    sync_down(store, "c", there)
    assert shape_of(there) == shape_of(checkpoint)
    assert shape_of(outside) == {"weights": b"mine"}


@pytest.mark.parametrize(
    "items",
    [
        {"../evil": {"kind": "file"}},
        {"/tmp/evil": {"kind": "file"}},
        {"a/../../evil": {"kind": "file"}},
        {"": {"kind": "dir"}},
        {"a/b": {"kind": "file"}},
        {"a": {"kind": "link", "target": ".."}},
        {"a": {"kind": "link", "target": "/etc"}},
        {"a": {"kind": "link", "target": "b/../.."}},
        {"a": {"kind": "link", "target": "b"}, "a/x": {"kind": "file"}},
        {"a": {"kind": "device"}},
        {"a": {"kind": "file", "unknown": 1}},
        {"a": {"kind": "file", "digest": "../../../etc/passwd"}},
        {"a": {"kind": "file", "digest": "0" * 64}},
        [],
    ],
)
def test_a_manifest_that_leads_out_or_lies_writes_nothing(store: ArtefactStore, tmp_path: Path, items: object) -> None:
    store.write_text("c/manifest.json", json.dumps({"version": 1, "listed_ns": 0, "items": items}))
    error = refused(lambda: sync_down(store, "c", tmp_path / "a" / "b" / "there"))
    assert (type(error), error.code) == (RuntimeFault, "mirror_broken")
    assert [path.name for path in (tmp_path / "a").rglob("*") if not path.is_dir()] == []


def test_a_manifest_of_another_version_is_refused(store: ArtefactStore, checkpoint: Path) -> None:
    store.write_text("c/manifest.json", json.dumps({"version": 2, "listed_ns": 0, "items": {}}))
    assert "version 2" in refused(lambda: sync_down(store, "c", checkpoint)).message
    assert (checkpoint / "step-1").exists()


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert digest_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
