"""Virtual environments for the foreign clients, one each because their protobuf definitions clash; made once and kept.

They live in `.venv/clients/`, or where FABRIC_CLIENT_VENVS says. A
name's stamp holds what was installed: another list makes it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGES: dict[str, tuple[str, ...]] = {
    "triton": ("tritonclient[http,grpc]==2.73.0",),
    "kserve": ("kserve==0.21.0",),
    "mlserver": ("mlserver==1.7.1",),
    # The generated gRPC client names no protobuf that it needs.
    "generated": ("open-inference-openapi==2.0.0.1", "open-inference-grpc==2.0.0", "protobuf>=5"),
    "schemathesis": ("schemathesis==4.32.5",),
    "tritonserver": ("nvidia-pytriton==0.7.0",),
}
INSTALL_S = 170.0


class NotInstallable(Exception):
    """The packages cannot be had here."""


def folder() -> Path:
    return Path(os.environ.get("FABRIC_CLIENT_VENVS", ROOT / ".venv" / "clients"))


def python_of(name: str) -> Path:
    """The interpreter of an environment, made where it is not there yet. Raises: NotInstallable."""
    place = folder() / name
    stamp, wanted = place / "installed", "\n".join(PACKAGES[name])
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        _make(place, PACKAGES[name])
        stamp.write_text(wanted, encoding="utf-8")
    return place / "bin" / "python"


def _make(place: Path, packages: tuple[str, ...]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(place)])
    uv = Path(sys.executable).with_name("uv")
    python = str(place / "bin" / "python")
    if uv.is_file():
        _run([str(uv), "pip", "install", "-q", "--python", python, *packages])
    else:
        _run([sys.executable, "-m", "pip", "--python", python, "install", "-q", *packages])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NotInstallable(f"{' '.join(command[-2:])}: {str(said).strip().splitlines()[-1:]}") from None
