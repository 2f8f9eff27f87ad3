"""The only door to bytes that outlive a process: working directories, payloads, logs, checkpoints, behind one fsspec URL.

A blob is named by its sha256 and never changes; everything else has a key, a relative path like `logs/<job>/1`. Invariants:
what can be read is whole (written aside, then renamed into place), and on disk when the call that wrote it returns; no key leads
out of the store; any call may be repeated. Many processes may use one store; a log or a mirror has one writer at a time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, NewType

import fsspec

from fabric.errors import ConfigError, FabricError, RuntimeFault, UserError

Digest = NewType("Digest", str)
"""64 hexadecimal digits: the sha256 of a blob."""

_COPY_BYTES = 2**20
_BLOBS, _ASIDE = "blobs", ".aside"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f\\/]{1,200}")
_MAX_KEY = 900  # S3 ends at 1024 bytes, the store's own prefix included
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Entry(NamedTuple):
    key: str
    size_bytes: int


class ArtefactStore:
    """Bytes under one URL, such as `file:///home/ann/.tierfabric/storage` or `s3://bucket/fabric`. Cheap to make.

    Raises: ConfigError (`bad_storage_url`); every method: RuntimeFault (`storage_failed`, `storage_full`).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root, self._is_local = _opened(url)
        if self._is_local:
            with self._faults("open"):
                # Logs and payloads are nobody else's to read.
                Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- blobs -------------------------------------------------------------------------------------------------------------

    def put(self, content: bytes | Path, digest: Digest | None = None) -> Digest:
        """Store a blob, from memory or from a file; nothing is written where it is there already. A file whose `digest` is known
        is read once less.

        Raises: UserError (`file_unreadable`; `file_changed` where it is written to meanwhile, or is not `digest`).
        """
        if isinstance(content, bytes):
            digest = Digest(hashlib.sha256(content).hexdigest())
            if not self.has(digest):
                self._write(self._blob(digest), content)
            return digest
        digest = digest or digest_of(content)
        self._upload(self._blob(digest), content, digest)
        return digest

    def put_open(self, file: IO[bytes]) -> Digest:
        """The same from an open file that can seek."""
        file.seek(0)
        digest = _copied(file, None)
        if not self.has(digest):
            file.seek(0)
            with self._faults("write", digest), self._aside(self._blob(digest)) as blob:
                _copied(file, blob.write)
        return digest

    @contextmanager
    def receiving(self, digest: Digest) -> Iterator[Callable[[bytes], object]]:
        """Store a blob that comes in pieces: call what is given with each. It is there when the block ends well, otherwise not at all.

        Raises: UserError (`bad_key`; `file_changed` where the pieces are not `digest`).
        """
        path, seen = self._blob(digest), hashlib.sha256()
        with self._faults("write", digest), self._aside(path) as file:

            def write(piece: bytes) -> None:
                seen.update(piece)
                file.write(piece)

            yield write
            if seen.hexdigest() != digest:
                raise UserError(f"what came is not {digest[:8]}…", code="file_changed", hint="send the file again when it is still")

    def size_of(self, digest: Digest) -> int:
        """Bytes of a blob. Raises: UserError (`artefact_not_found`)."""
        path = self._blob(digest)
        with self._faults("look for", digest):
            try:
                return int(self._fs.info(path)["size"])
            except FileNotFoundError as error:
                raise UserError(f"{digest} is not in {self.url}", code="artefact_not_found", name=digest) from error

    def has(self, digest: Digest) -> bool:
        with self._faults("look for", digest):
            return bool(self._fs.isfile(self._blob(digest)))

    def open(self, digest: Digest) -> IO[bytes]:
        """The blob, to read; close it. Raises: UserError (`artefact_not_found`)."""
        return self._open(self._blob(digest), digest)

    def localise(self, digest: Digest, into: Path) -> Path:
        """The blob as a file `into/<digest>`, fetched unless it is there. A blob that is not what was stored is not handed out.

        Raises: UserError (`artefact_not_found`), RuntimeFault (`artefact_corrupt`).
        """
        target = into / digest
        source = self._blob(digest)
        if not target.exists():
            into.mkdir(parents=True, exist_ok=True)
            self._fetch(source, target, digest)
        return target

    # -- keys --------------------------------------------------------------------------------------------------------------

    def write_bytes(self, key: str, content: bytes) -> None:
        self._write(self._path(key), content)

    def read_bytes(self, key: str) -> bytes:
        """Raises: UserError (`artefact_not_found`)."""
        path = self._path(key)
        with self._faults("read", key), self._open(path, key) as file:
            return file.read()

    def write_text(self, key: str, text: str) -> None:
        self.write_bytes(key, text.encode())

    def read_text(self, key: str) -> str:
        return self.read_bytes(key).decode()

    def upload(self, key: str, source: Path, digest: Digest) -> bool:
        """A file whose digest is known, to a key, unless something is there; whether it was written. Raises: as `put`."""
        return self._upload(self._path(key), source, digest)

    def fetch(self, key: str, target: Path, digest: Digest) -> None:
        """The other way; `target` is replaced in one step. Raises: as `localise`."""
        self._fetch(self._path(key), target, digest)

    def entries(self, prefix: str = "") -> tuple[Entry, ...]:
        """What lies at or below the prefix (whole names: `logs/a` is not below `logs/ab`), sorted by key. Blobs are left out."""
        top = self._path(prefix) if prefix else self._root or "/"
        with self._faults("list", prefix):
            try:
                found: dict[str, dict[str, Any]] = self._fs.find(top, detail=True)
            except FileNotFoundError:
                return ()
            # fsspec gives a lone local file without its particulars.
            known = {path: info or self._fs.info(path) for path, info in found.items()}
        start = len(self._root) + 1
        entries = (Entry(path[start:], int(info["size"])) for path, info in known.items() if info["type"] == "file")
        return tuple(sorted(entry for entry in entries if entry.key.partition("/")[0] not in (_BLOBS, _ASIDE)))

    def delete(self, prefix: str) -> int:
        """Delete the key and all below it; how many files that were. 0 where nothing is there."""
        path, gone = self._path(prefix), self.entries(prefix)
        with self._faults("delete", prefix), suppress(FileNotFoundError):
            self._fs.rm(path, recursive=True)
        return len(gone)

    # -- inside ------------------------------------------------------------------------------------------------------------

    def sweep(self, older_than_s: float = 86400.0) -> int:
        """Delete what writers that died left half-written, once it is that old; how many files that were."""
        aside, num_swept = f"{self._root}/{_ASIDE}", 0
        with self._faults("sweep"):
            for path in self._fs.find(aside) if self._fs.exists(aside) else ():
                with suppress(FileNotFoundError):  # its writer was only slow
                    if time.time() - self._fs.modified(path).timestamp() >= older_than_s:
                        self._fs.rm_file(path)
                        num_swept += 1
        return num_swept

    def _write(self, path: str, content: bytes) -> None:
        with self._faults("write", path), self._aside(path) as file:
            file.write(content)

    def _upload(self, path: str, source: Path, digest: Digest) -> bool:
        with self._faults("write", path):
            is_new = not self._fs.isfile(path)
            if is_new:
                with _reading(source) as content, self._aside(path) as file:
                    if _copied(content, file.write) != digest:
                        raise UserError(
                            f"{source} is not {digest[:8]}…, or changed meanwhile", code="file_changed", hint="try again when it is still"
                        )
        return is_new

    def _open(self, path: str, name: str) -> IO[bytes]:
        with self._faults("read", name):
            try:
                file: IO[bytes] = self._fs.open(path, "rb")
            except (FileNotFoundError, IsADirectoryError) as error:
                raise UserError(f"{name} is not in {self.url}", code="artefact_not_found", name=name) from error
        return file

    def _fetch(self, path: str, target: Path, digest: Digest) -> None:
        aside = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with self._faults("fetch", path):
                with self._open(path, digest) as source, aside.open("xb") as file:
                    if _copied(source, file.write) != digest:
                        raise RuntimeFault(f"{path} is not what was stored there", code="artefact_corrupt", name=digest)
                aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def _aside(self, path: str) -> Iterator[IO[bytes]]:
        """A file to write that appears at `path` when the block ends well, whole and on disk; otherwise not at all."""
        aside = f"{self._root}/{_ASIDE}/{uuid.uuid4().hex}"
        try:
            self._fs.makedirs(aside.rpartition("/")[0], exist_ok=True)
            with self._fs.open(aside, "wb") as file:
                yield file
                if self._is_local:
                    file.flush()
                    os.fsync(file.fileno())
            if self._is_local:
                _make_directory(Path(path).parent)
                Path(aside).replace(path)
                _sync_directory(Path(path).parent)
            else:
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._fs.mv(aside, path)
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(aside)
            raise

    def _blob(self, digest: Digest) -> str:
        if not _DIGEST.fullmatch(digest):
            raise UserError(f"{digest!r} is not a digest", code="bad_key", hint="64 hexadecimal digits")
        return f"{self._root}/{_BLOBS}/{digest[:2]}/{digest}"

    def _path(self, key: str) -> str:
        names = key.split("/")
        is_key = names[0] not in (_BLOBS, _ASIDE) and len(key) <= _MAX_KEY
        if not is_key or any(name in (".", "..") or not _SEGMENT.fullmatch(name) for name in names):
            raise UserError(f"{key!r} is not a key", code="bad_key", hint="names with / between them, like logs/7f3a/1")
        return f"{self._root}/{key}"

    @contextmanager
    def _faults(self, verb: str, what: str = "") -> Iterator[None]:
        """What a store raises becomes ours. A remote one raises what its client library likes."""
        try:
            yield
        except FabricError:
            raise
        except Exception as error:
            if self._is_local and not isinstance(error, OSError):
                raise
            is_full = isinstance(error, OSError) and error.errno in _FULL
            code, hint = ("storage_full", "make room there, or set another storage_url") if is_full else ("storage_failed", None)
            raise RuntimeFault(f"cannot {verb} {what or self.url}: {error}", code=code, hint=hint, url=self.url) from error


def digest_of(file: Path) -> Digest:
    """Raises: UserError (`file_unreadable`)."""
    with _reading(file) as content:
        return _copied(content, None)


def _opened(url: str) -> tuple[Any, str, bool]:
    """The file system, the path of the store in it (without a slash at its end), whether that is this machine's own."""
    if "://" not in url:
        raise ConfigError(f"{url!r} is not a URL", code="bad_storage_url", hint=f"file://{Path(url).expanduser().absolute()}")
    try:
        # A listing that fsspec remembers would hide what others wrote.
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"storage_url {url}: {error}", code="bad_storage_url", hint="file:///a/directory, or s3://bucket/prefix"
        ) from error
    is_local = isinstance(fs, fsspec.get_filesystem_class("file"))
    if is_local and not root.strip("/"):
        raise ConfigError(f"storage_url {url} is the whole disk", code="bad_storage_url", hint="name a directory")
    return fs, root.rstrip("/"), is_local


@contextmanager
def _reading(source: Path) -> Iterator[IO[bytes]]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}", code="file_unreadable") from error
    with file:
        yield file


def _copied(source: IO[bytes], write: Callable[[bytes], object] | None) -> Digest:
    """Read to the end, write what was read, and say what it was."""
    digest = hashlib.sha256()
    while piece := source.read(_COPY_BYTES):
        digest.update(piece)
        if write is not None:
            write(piece)
    return Digest(digest.hexdigest())


def _make_directory(path: Path) -> None:
    """With its parents, so that a power cut does not take them away."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
