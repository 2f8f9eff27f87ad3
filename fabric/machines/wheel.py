"""Packs the tierfabric that runs here into a wheel, with what it needs pinned to what is installed here. No registry, no build tools.

A wheel is a zip with a listing (https://packaging.python.org/specifications/binary-distribution-format/); the packages' own files and the
installed metadata are all that goes in, so that it works from a checkout and from an installation alike.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from fabric.errors import RuntimeFault

DISTRIBUTION = "tierfabric"
PACKAGES = ("fabric", "pools", "profiler", "serve_apps")
_TIMESTAMP = (2020, 1, 1, 0, 0, 0)
_SKIP = re.compile(r"(^|/)__pycache__/|\.pyc$")


@dataclass(frozen=True, slots=True)
class Release:
    """What is shipped. `digest`: of both files; the same digest is the same installation."""

    wheel: Path
    constraints: str
    digest: str


def pack(directory: Path) -> Release:
    """Write the wheel into `directory`. The same sources give the same bytes. Raises: RuntimeFault (`not_installed`)."""
    try:
        about = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise RuntimeFault("tierfabric itself is not installed here", code="not_installed", hint="pip install . or make setup") from None
    files = dict(sorted(_sources()))
    source_digest = hashlib.sha256(b"".join(name.encode() + data for name, data in files.items())).hexdigest()[:8]
    version = f"{about.version.split('+')[0]}+{source_digest}"
    info = f"{DISTRIBUTION}-{version}.dist-info"
    files |= {
        f"{info}/METADATA": re.sub(r"(?m)^Version: .*$", f"Version: {version}", _about(about), count=1).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tierfabric\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": (about.read_text("entry_points.txt") or "").encode(),
        f"{info}/top_level.txt": "\n".join(PACKAGES).encode(),
    }
    record = "".join(f"{name},{_record_digest(data)},{len(data)}\n" for name, data in files.items()) + f"{info}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob(f"{DISTRIBUTION}-*.whl"):
        old.unlink()
    wheel = directory / f"{DISTRIBUTION}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), data, zipfile.ZIP_DEFLATED)
    constraints = "".join(f"{name}=={version}\n" for name, version in sorted(_pins().items()))
    digest = hashlib.sha256(wheel.read_bytes() + constraints.encode()).hexdigest()[:16]
    return Release(wheel, constraints, digest)


def _about(distribution: metadata.Distribution) -> str:
    """Its core metadata: METADATA of an installation, PKG-INFO of a checkout's egg-info."""
    return distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""


def _sources() -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeFault(f"package {package} is not installed here", code="not_installed", hint="pip install . or make setup")
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(root.rglob("*")):
            name = f"{package}/{path.relative_to(root).as_posix()}"
            if path.is_file() and not _SKIP.search(name):
                yield name, path.read_bytes()


def _record_digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _pins() -> dict[str, str]:
    """Every distribution that tierfabric needs, directly or not, at the version that is installed here."""
    pins: dict[str, str] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(DISTRIBUTION, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            about = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one that is not installed here
        if name != DISTRIBUTION:
            pins[_normal(name)] = about.version
        for line in about.requires or ():
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append((need.name, frozenset(need.extras)))
    return pins


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
