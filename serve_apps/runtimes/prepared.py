"""Rewrites an ONNX model once per node into two files that all replicas map instead of read.

A prepared folder holds `mapped.onnx` + `mapped.bin` (weights as they are, run without prepacking: ready in milliseconds), `packed.onnx`
+ `packed.bin` (weights as the kernels want them: full speed) and, written last, `manifest.json` with the size of each. A folder is
complete or absent: it is made under another name and renamed. Its name is the digest of the model's content, onnxruntime's version
and the CPU's kind, for the packed form fits no other CPU.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import onnxruntime

from fabric.errors import ModelError, RuntimeFault
from serve_apps.runtimes.content_digest import content_digest
from serve_apps.runtimes.one_writer import locked
from serve_apps.runtimes.onnx import open_session, session_options
from serve_apps.runtimes.onnx_file import source_bytes, weight_files
from serve_apps.runtimes.prepared_check import check_forms

FORMAT = 1
"""Part of the folder's name: a change of what this file writes must change it."""

MANIFEST = "manifest.json"
_SPACE_FACTOR = 3.1
"""mapped.bin holds the weights once, packed.bin twice (plain and packed)."""
_WRITTEN = {
    "mapped": {"session.disable_prepacking": "1"},
    "packed": {"session.save_external_prepacked_constant_initializers": "1"},
}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(file: Path, cache: Path) -> Path:
    """The prepared folder of the ONNX model `file` below `cache`; written now if there is none. Takes seconds the first time.

    Of several that ask at once, one writes and the others wait for it.

    Raises: `ModelError` (`model_unreadable`), `RuntimeFault` (`cache_full`, `cache_unwritable`).
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = cache / _key(content_digest([file, *weight_files(file)], cache))
        if is_complete(folder):
            return folder
        with locked(cache / f"{folder.name}.lock"):
            if not is_complete(folder):
                _write(file, folder)
    except OSError as error:
        full = error.errno in _DISK_FULL
        raise RuntimeFault(
            f"cannot prepare {file} in {cache}: {error}",
            code="cache_full" if full else "cache_unwritable",
            hint="free some space there; until then each replica holds weights of its own" if full else None,
            path=str(cache),
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    """Whether every file is there in the size that was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in manifest["bytes"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def discard(folder: Path) -> None:
    """Remove a prepared folder. Processes that have it mapped keep what they mapped."""
    try:
        doomed = Path(tempfile.mkdtemp(prefix=f"{folder.name}.gone-", dir=folder.parent))
        folder.rename(doomed / folder.name)
    except FileNotFoundError:
        pass  # somebody else removed it
    shutil.rmtree(doomed, ignore_errors=True)


def _write(file: Path, folder: Path) -> None:
    if folder.exists():
        discard(folder)
    _remove_leftovers(folder)
    _check_space(file, folder.parent)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    try:
        for name, settings in _WRITTEN.items():
            _save(file, made / f"{name}.onnx", settings)
        _check(file, made)
        sizes = {part.name: part.stat().st_size for part in sorted(made.iterdir())}
        (made / MANIFEST).write_text(json.dumps({"source": str(file), "bytes": sizes}), encoding="utf-8")
        for part in made.iterdir():
            _to_disk(part)
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _save(file: Path, target: Path, settings: dict[str, str]) -> None:
    options = session_options(num_threads=os.cpu_count() or 1)
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3  # it warns that the result fits this kind of CPU alone, which the folder's name sees to
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{target.stem}.bin")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    open_session(file, options)


def _check(file: Path, made: Path) -> None:
    """That both forms may stand for the model. onnxruntime does not tell when its writing stopped at a full disk: they do not load then."""
    try:
        check_forms(file, {made / f"{name}.onnx": saved_options(name, num_threads=1) for name in _WRITTEN})
    except ModelError as error:
        if shutil.disk_usage(made).free < source_bytes(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made)) from error
        raise


def saved_options(name: str, num_threads: int) -> onnxruntime.SessionOptions:
    """Options to load `mapped.onnx` or `packed.onnx`; both are optimised already."""
    options = session_options(num_threads)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if name == "mapped":
        # Prepacking would copy each weight into private memory.
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _check_space(file: Path, cache: Path) -> None:
    needed_bytes = int(_SPACE_FACTOR * source_bytes(file))
    if shutil.disk_usage(cache).free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed_bytes:,} bytes are needed", str(cache))


def _key(digest: str) -> str:
    return f"{digest}-{FORMAT}-ort{onnxruntime.__version__}-{_cpu_kind()}"


def _cpu_kind() -> str:
    """What onnxruntime picks its kernels by: the CPU's instruction sets."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features", "CPU part"))]
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()[:8]


def _to_disk(part: Path) -> None:
    with part.open("rb") as opened:
        os.fsync(opened.fileno())


def _remove_leftovers(folder: Path) -> None:
    """What writers of this folder that were killed have left. Called under its lock, so none of them is alive."""
    for left in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
