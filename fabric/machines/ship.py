"""What every machine of a cluster is given: tierfabric as a wheel, its pins, the cluster's token and certificates. One folder, one way.

`prepare` makes the folder here, `send` brings it to a machine and installs it. Both are idempotent: what is there is not sent again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import secrets
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from fabric.errors import ConfigError, RuntimeFault
from fabric.machines import wheel
from fabric.machines.facts import MachineFacts
from fabric.machines.ssh import Remote

SEND_TIMEOUT_S = 300.0
INSTALL_TIMEOUT_S = 1800.0
VENV = "~/.tierfabric/venv"
THERE = "~/.tierfabric/ship"

# $1: an environment that is there already, or nothing; $2: the Python to make one with.
_INSTALL = r"""set -e
umask 077
ship="$HOME/.tierfabric/ship"; venv="$HOME/.tierfabric/venv"; node="$HOME/.tierfabric/node"
mkdir -p "$node" "$HOME/.ray"
if [ -f "$ship/auth_token" ]; then
  cp "$ship/auth_token" "$node/auth_token"; chmod 600 "$node/auth_token"
  [ -e "$HOME/.ray/auth_token" ] || cp "$ship/auth_token" "$HOME/.ray/auth_token"
fi
cp "$ship/fabric.yaml" "$HOME/.tierfabric/fabric.yaml"
[ -d "$ship/tls" ] && rm -rf "$node/tls" && cp -r "$ship/tls" "$node/tls"
if [ -z "$1" ] && [ "$(cat "$venv/.tierfabric-release" 2>/dev/null)" != "$(cat "$ship/release")" ]; then
  [ -x "$venv/bin/python" ] || "$2" -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input -c "$ship/constraints.txt" "$ship"/tierfabric-*.whl
  cp "$ship/release" "$venv/.tierfabric-release"
fi
cp "$ship/release" "$HOME/.tierfabric/release"
"""


@dataclass(frozen=True)
class Shipment:
    """A prepared folder. `release`: what is installed from it; `token`: the first digits of its token's digest."""

    folder: Path
    release: str
    token: str

    @functools.cached_property
    def archive(self) -> bytes:
        """Made when the first machine lacks it: most starts compare and send nothing."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            archive.add(self.folder, arcname=".")
        return buffer.getvalue()


def prepare(
    folder: Path,
    *,
    token: Path | None,
    tls: Mapping[str, Path] | None = None,
    settings: Mapping[str, Any] | None = None,
    is_packed: bool = True,
) -> Shipment:
    """Make the folder anew. `tls`: `cert`, `key` and `ca`; `settings`: what fabric.yaml says there; `is_packed`: with
    tierfabric itself, for machines that have it not. Raises: ConfigError, RuntimeFault."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    packed = wheel.pack(folder) if is_packed else wheel.Release(folder, "", version(wheel.DISTRIBUTION))
    text = yaml.safe_dump(dict(settings or {}), sort_keys=False)
    release = hashlib.sha256(f"{packed.digest}{text}".encode()).hexdigest()[:16]
    (folder / "fabric.yaml").write_text(text, encoding="utf-8")
    (folder / "constraints.txt").write_text(packed.constraints, encoding="utf-8")
    (folder / "release").write_text(release + "\n", encoding="utf-8")
    (folder / "install.sh").write_text(_INSTALL, encoding="utf-8")
    token_text = ""
    if token is not None:
        token_text = read_token(token)
        _write_secret(folder / "auth_token", token_text)
    shutil.rmtree(folder / "tls", ignore_errors=True)
    for name, path in (tls or {}).items():
        (folder / "tls").mkdir(mode=0o700, exist_ok=True)
        _write_secret(folder / "tls" / f"{name}.pem", path.read_text(encoding="utf-8"))
    digest = hashlib.sha256(token_text.encode()).hexdigest()[:16] if token_text else ""
    return opened(folder, digest, release)


def opened(folder: Path, token: str | None = None, release: str | None = None) -> Shipment:
    """A folder that was prepared before, here or on another machine."""
    if token is None:
        file = folder / "auth_token"
        token = hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.exists() else ""
    return Shipment(folder, release or (folder / "release").read_text(encoding="utf-8").strip(), token)


def make_token(path: Path) -> Path:
    """A token of the cluster's own, made where there is none."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secret(path, secrets.token_hex(32))
    return path


def read_token(path: Path) -> str:
    """Raises: ConfigError (`token_open`) where others may read it, (`bad_token`) where it is no token."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ConfigError(f"the token {path} is open to others (mode {mode:04o})", code="token_open", hint=f"chmod 600 {path}; if others "
                          "had it, delete it and run the command again: a fresh one is made")  # fmt: skip
    text = path.read_text(encoding="utf-8").strip()
    if len(text) < 32:
        raise ConfigError(f"{path} holds no token", code="bad_token", hint=f"delete {path}: a fresh one is made")
    return text


def is_there(facts: MachineFacts, shipment: Shipment) -> bool:
    """Whether a machine has all of it already."""
    return facts.text("release") == shipment.release and facts.text("token") == shipment.token


def send(remote: Remote, shipment: Shipment) -> None:
    """Bring the folder to the machine. Raises: SshError, RuntimeFault (`ship_failed`)."""
    outcome = remote.run(
        f"umask 077; rm -rf {THERE} && mkdir -p {THERE} && tar xzf - -C {THERE}", stdin=shipment.archive, timeout_s=SEND_TIMEOUT_S
    )
    if outcome.status:
        raise RuntimeFault(
            "its files cannot be written there",
            code="ship_failed",
            hint="is its disk full, or its home not yours?",
            log=outcome.last_lines(),
        )


def install(remote: Remote, environment: str | None, python: str) -> None:
    """Install what was sent: minutes at the first time, nothing at the next. Raises: SshError, RuntimeFault (`install_failed`)."""
    words = shlex.join([environment or "", python])
    outcome = remote.run(f"sh {THERE}/install.sh {words}", timeout_s=INSTALL_TIMEOUT_S)
    if outcome.status:
        raise RuntimeFault(
            "tierfabric cannot be installed there",
            code="install_failed",
            hint="does pip there reach a package index (proxy, ~/.config/pip/pip.conf)? is there room?",
            log=outcome.last_lines(),
        )


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    path.chmod(0o600)
