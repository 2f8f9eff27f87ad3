"""One virtual environment for each peer, made when first asked for and kept in a cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

DEFAULT_VENVS = Path.home() / ".cache" / "tierfabric-bench" / "venvs"

_INSTALL_TIMEOUT_S = 900


class NotInstalled(Exception):
    """A peer that cannot be installed here; its message is the installer's last line."""


def python_of(name: str, requirements: tuple[str, ...], venvs: Path) -> Path:
    """The interpreter of the environment `name`, which holds exactly these requirements. Raises: `NotInstalled`."""
    if not requirements:
        return Path(sys.executable)
    home, wanted = venvs / name, "\n".join(requirements)
    python, mark = home / "bin" / "python", home / "installed.txt"
    if mark.exists() and mark.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    venvs.mkdir(parents=True, exist_ok=True)
    print(f"installing {name} into {home}", file=sys.stderr)
    try:
        for step in _steps(home, python, requirements):
            subprocess.run(step, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise NotInstalled((error.stderr or "no output").strip().splitlines()[-1]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    mark.write_text(wanted)
    return python


def _steps(home: Path, python: Path, requirements: tuple[str, ...]) -> list[list[str]]:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        return [[uv, "venv", "-q", "-p", sys.executable, str(home)], [uv, "pip", "install", "-q", "-p", str(python), *requirements]]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements],
    ]
