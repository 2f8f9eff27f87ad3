"""What a version is made of, as bytes in the artefact store: a captured service, or the files of a model. Built only where it runs."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric.artefacts import ArtefactStore, Digest
from fabric.errors import ModelError
from fabric.payload import pack_callable, unpack_callable
from serve_apps.runtimes.onnx_file import is_onnx, weight_files


@dataclass(frozen=True, slots=True)
class ServiceSource:
    """A service class and its constructor's arguments, pickled. `workdir` and `path`: the directory and `sys.path` of the deployer,
    which a replica takes over where they exist."""

    payload: bytes
    workdir: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, service: type, args: Sequence[Any], kwargs: Mapping[str, Any], hints: Mapping[str, Any] | None) -> ServiceSource:
        """`hints`: the annotations of `predict`, resolved. Raises: UserError (`argument_too_large`, `argument_not_picklable`)."""
        payload = pack_callable(service, (tuple(args), dict(kwargs), hints))
        return cls(payload, str(Path.cwd()), tuple(entry for entry in sys.path if entry))

    def capture(self) -> tuple[Any, tuple[Any, ...], dict[str, Any], Mapping[str, Any] | None]:
        """(class, args, kwargs, hints), imported in this process. Raises: what importing the class's module raises."""
        with suppress(OSError):
            os.chdir(self.workdir)
        sys.path.extend(entry for entry in self.path if entry not in sys.path and Path(entry).exists())
        service, (args, kwargs, hints), _ = unpack_callable(self.payload)
        return service, args, kwargs, hints


@dataclass(frozen=True, slots=True)
class FileSource:
    """The files of a model: (path below its folder, digest). `main`: the file, or the folder (empty), that `load_model` opens."""

    files: tuple[tuple[str, Digest], ...]
    main: str

    @classmethod
    def of(cls, path: Path, store: ArtefactStore) -> FileSource:
        """Store a model file with what lies beside it and belongs to it, or a model folder.

        Raises: ModelError (`model_not_found`; `model_unreadable` where a part of it is missing).
        """
        parts, main = parts_of(path)
        return cls(tuple((name, store.put(part)) for name, part in parts), main)

    def localise(self, store: ArtefactStore, cache: Path) -> Path:
        """The model as files on this machine, below `cache`; fetched unless they are there. Raises: as `ArtefactStore.localise`."""
        blobs = cache / "blobs"
        folder = cache / "models" / _name(self.files)
        for name, digest in self.files:
            target = folder / name
            if not target.exists():
                blob = store.localise(digest, blobs)
                target.parent.mkdir(parents=True, exist_ok=True)
                aside = target.with_name(f".{target.name}.{os.getpid()}")
                aside.unlink(missing_ok=True)
                os.link(blob, aside)
                aside.replace(target)
        return folder / self.main if self.main else folder


Source = ServiceSource | FileSource


def parts_of(path: Path) -> tuple[list[tuple[str, Path]], str]:
    """The files of a model, each with its path below the model's folder, and which of them `load_model` opens: empty for the folder itself.

    Raises: ModelError (`model_not_found`; `model_unreadable` where a part of it is missing).
    """
    if not path.exists():
        raise ModelError(f"no model at {path}: there is no such file", code="model_not_found", path=str(path))
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        return [(part.relative_to(path).as_posix(), part) for part in parts], ""
    folder = path.absolute().parent
    beside = weight_files(path) if is_onnx(path) else _beside(path)
    return [(path.name, path), *((part.absolute().relative_to(folder).as_posix(), part) for part in beside)], path.name


def put_source(source: Source, store: ArtefactStore) -> Digest:
    return store.put(pickle.dumps(source))


def get_source(digest: Digest, store: ArtefactStore) -> Source:
    """Raises: UserError (`artefact_not_found`). Only this fabric's users write its store: a pickle runs code."""
    with store.open(digest) as file:
        source = pickle.load(file)
    assert isinstance(source, ServiceSource | FileSource)
    return source


def _beside(path: Path) -> list[Path]:
    """Weights that other formats keep beside the file, by the names in use: `<name>.data`, `<name>.bin`, `<stem>.bin`, `<stem>.data`."""
    stem = path.with_suffix("")
    names = (f"{path}.data", f"{path}.bin", f"{stem}.bin", f"{stem}.data", f"{path}_data")
    return [Path(name) for name in dict.fromkeys(names) if Path(name).is_file()]


def _name(files: Sequence[tuple[str, Digest]]) -> str:
    import hashlib

    return hashlib.sha256(repr(files).encode()).hexdigest()[:32]
