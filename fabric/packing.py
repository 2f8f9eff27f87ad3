"""Packs a working directory into one archive and unpacks it on a node.

Invariants: the same files make the same archive, byte for byte, whoever owns them and whenever they were written; `.gitignore` is
honoured; no file or link of an archive leads out of the directory; what is unpacked appears whole or not at all.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from fabric.artefacts import Digest, digest_of
from fabric.errors import RuntimeFault, UserError
from fabric.ignored import belonging
from fabric.links import is_plain, stays_inside, target_inside

LIMIT_BYTES = 500 * 2**20
"""Of all files together, before they are compressed. Ray's limit for a working directory, too."""

_NUM_LARGEST = 10
# Level 1 takes a quarter of the time of the usual 6 for a quarter more bytes; what does not shrink is stored as it is, which
# takes a fortieth of that. Source: measured on Python sources (144 and 39 MiB/s) and random bytes (52 and 1950 MiB/s).
_FAST, _STORED = 1, 0
_SAMPLE_BYTES = 64 * 1024
_SHRINKS_FRAC = 0.9


class Sized(NamedTuple):
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive. `size_bytes` is the archive's; `content_bytes` that of the files in it. `largest`: the ten biggest, biggest first.
    `left_out`: links that lead out of the directory, sockets and the like."""

    path: Path
    digest: Digest
    size_bytes: int
    content_bytes: int
    num_files: int
    largest: tuple[Sized, ...]
    left_out: tuple[str, ...] = ()


class _Found(NamedTuple):
    """One path of the directory; `target` of a link."""

    relative: str
    path: Path
    kind: bytes
    size: int = 0
    is_executable: bool = False
    target: str = ""


def pack(directory: Path, into: Path, *, limit_bytes: int = LIMIT_BYTES) -> Packed:
    """Write the archive to a new file in `into`, which must not lie in the directory; whoever called deletes it.

    Raises: UserError (`working_dir_not_found`, `working_dir_too_large`, `working_dir_unreadable`, `working_dir_changed`).
    """
    directory = directory.resolve()
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory", code="working_dir_not_found")
    try:
        found = list(_found(directory))
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}", code="working_dir_unreadable", hint=_IGNORE_HINT) from error
    kept = [each for each in found if each.kind]
    content_bytes = sum(each.size for each in kept)
    largest = tuple(
        Sized(each.relative, each.size) for each in sorted(kept, key=lambda f: (-f.size, f.relative))[:_NUM_LARGEST] if each.size
    )
    if content_bytes > limit_bytes:
        raise _too_large(directory, content_bytes, limit_bytes, largest)
    archive = into / f"{uuid.uuid4().hex}.tar.gz"
    try:
        _write(archive, kept)
        return Packed(
            path=archive,
            digest=digest_of(archive),
            size_bytes=archive.stat().st_size,
            content_bytes=content_bytes,
            num_files=sum(each.kind == tarfile.REGTYPE for each in kept),
            largest=largest,
            left_out=tuple(each.relative for each in found if not each.kind),
        )
    except OSError as error:
        archive.unlink(missing_ok=True)
        raise RuntimeFault(f"cannot write {archive}: {error}", code="storage_failed", hint="is there room?") from error
    except BaseException:
        archive.unlink(missing_ok=True)
        raise


def unpack(archive: Path, into: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
    """Unpack to the directory `into`, which must not be there yet or be empty.

    Raises: RuntimeFault (`archive_broken`) for an archive that `pack` would not write, or one larger than the limit;
    RuntimeFault (`unpack_failed`) where the disk is full or `into` is in use.
    """
    aside = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir(parents=True)
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream) as tar:
            _extract(tar, aside, limit_bytes)
            _check_to_the_end(stream)
        aside.replace(into)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _broken(f"{archive.name} cannot be read: {error}") from error
    except OSError as error:
        raise RuntimeFault(f"cannot unpack to {into}: {error}", code="unpack_failed") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


# -- what is packed --------------------------------------------------------------------------------------------------------

_IGNORE_HINT = "name it in .gitignore to leave it out"


def _found(directory: Path) -> Iterator[_Found]:
    """What belongs to the directory; without a kind where it cannot travel."""
    for entry in belonging(directory):
        path = Path(entry.path)
        relative = path.relative_to(directory).as_posix()
        status = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            target = target_inside(directory, path)
            yield _Found(relative, path, b"") if target is None else _Found(relative, path, tarfile.SYMTYPE, target=target)
        elif stat.S_ISDIR(status.st_mode):
            yield _Found(relative, path, tarfile.DIRTYPE)
        elif stat.S_ISREG(status.st_mode):
            yield _Found(relative, path, tarfile.REGTYPE, status.st_size, bool(status.st_mode & stat.S_IXUSR))
        else:
            yield _Found(relative, path, b"")


class _Gzip(io.RawIOBase):
    """Gzip members one after the other, each at its own level; a reader sees one stream."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._level, self._num_written = raw, _FAST, 0
        self._member = self._begun()

    def _begun(self) -> gzip.GzipFile:
        return gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", compresslevel=self._level, mtime=0)

    def set_level(self, level: int) -> None:
        if level != self._level:
            self._member.close()
            self._level = level
            self._member = self._begun()

    def write(self, data: Any) -> int:
        self._num_written += self._member.write(data)
        return len(data)

    def tell(self) -> int:
        return self._num_written

    def close(self) -> None:
        self._member.close()
        super().close()


def _write(archive: Path, files: list[_Found]) -> None:
    with archive.open("xb") as raw, _Gzip(raw) as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in files:
            # Of what stat says, only this much is the same on every machine.
            member = tarfile.TarInfo(each.relative)
            member.type, member.linkname = each.kind, each.target
            member.mode = 0o755 if each.is_executable or each.kind == tarfile.DIRTYPE else 0o644
            if each.kind != tarfile.REGTYPE:
                tar.addfile(member)
                continue
            member.size = each.size
            with _opened(each) as file:
                packed.set_level(_level_for(file))
                _add(tar, member, file, each)


def _level_for(file: IO[bytes]) -> int:
    """By the file's beginning; small files are not worth a member of their own."""
    sample = file.read(_SAMPLE_BYTES)
    file.seek(0)
    is_stored = len(sample) == _SAMPLE_BYTES and len(zlib.compress(sample, _FAST)) > _SHRINKS_FRAC * _SAMPLE_BYTES
    return _STORED if is_stored else _FAST


def _opened(each: _Found) -> IO[bytes]:
    try:
        return each.path.open("rb")
    except FileNotFoundError as error:
        raise _changed(each) from error
    except OSError as error:
        raise UserError(f"cannot read {each.relative}: {error.strerror}", code="working_dir_unreadable", hint=_IGNORE_HINT) from error


def _add(tar: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes], each: _Found) -> None:
    if os.fstat(file.fileno()).st_size != each.size:
        raise _changed(each)
    try:
        tar.addfile(member, file)
    except OSError as error:
        if error.errno is not None:  # the disk's, not tarfile's own "unexpected end of data"
            raise
        raise _changed(each) from error
    if os.fstat(file.fileno()).st_size != each.size:
        raise _changed(each)


def _changed(each: _Found) -> UserError:
    return UserError(f"{each.relative} changed while it was packed", code="working_dir_changed", hint=f"try again, or {_IGNORE_HINT}")


def _too_large(directory: Path, content_bytes: int, limit_bytes: int, largest: tuple[Sized, ...]) -> UserError:
    biggest = ", ".join(f"{path} ({_mib(size)})" for path, size in largest)
    return UserError(
        f"{directory} holds {_mib(content_bytes)}, more than {_mib(limit_bytes)}; the biggest: {biggest}",
        code="working_dir_too_large",
        hint="name what the job does not need in .gitignore, and keep data at a URL",
        largest=tuple(tuple(each) for each in largest),
    )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"


# -- what is unpacked ------------------------------------------------------------------------------------------------------


def _extract(tar: tarfile.TarFile, into: Path, limit_bytes: int) -> None:
    now_s, total_bytes = int(time.time()), 0
    seen: set[str] = set()
    links: dict[str, str] = {}
    for member in tar:
        total_bytes += member.size
        if total_bytes > limit_bytes:
            raise _broken(f"it holds more than {_mib(limit_bytes)}")
        if member.name in seen or not is_plain(member.name):
            raise _broken(f"{member.name!r} leads out, or comes twice")
        seen.add(member.name)
        if member.issym() and stays_inside(member.name, member.linkname):
            links[member.name] = member.linkname
        elif member.isreg() or member.isdir():
            # Old times would mislead tools that compare them (make, Python's caches).
            tar.extract(member.replace(mtime=now_s, deep=False), into, filter="data")
        else:
            raise _broken(f"{member.name!r} is not a file, a directory or a link inside")
    # Links come last, and nothing lies below one: nothing is ever written through a link.
    for name in seen:
        if any(str(parent) in links for parent in PurePosixPath(name).parents):
            raise _broken(f"{name!r} lies below a link")
    for name, target in links.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).symlink_to(target)


def _check_to_the_end(stream: gzip.GzipFile) -> None:
    """tarfile stops at its own end mark; gzip's checksum of the content comes after it."""
    left_bytes = tarfile.RECORDSIZE
    while padding := stream.read(tarfile.RECORDSIZE):
        left_bytes -= len(padding)
        if left_bytes < 0:
            raise _broken("something follows its end")


def _broken(message: str) -> RuntimeFault:
    return RuntimeFault(message, code="archive_broken", hint="nothing was unpacked")
