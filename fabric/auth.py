"""Ray's token authentication, settled before Ray is imported: Ray fixes the mode at its import.

A token of this user's is made once (`~/.ray/auth_token`, mode 0600) and used, unless RAY_AUTH_MODE says otherwise: a
twin is never open to other users of the machine, nor to a web page in this one's browser.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any


def settle(*, make: bool = True) -> None:
    """Turn token authentication on for this process and its children. Does nothing where Ray or the user came first.

    `make`: where there is no token yet, make one; otherwise leave everything as it is.
    """
    if "ray" in sys.modules:
        return
    # Ray would start a cluster of its own for any call after the fabric was left (Serve's threads make such calls).
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if "RAY_AUTH_MODE" in os.environ:
        return
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        if not make and not token_file().exists():
            return
        make_token()
    os.environ["RAY_AUTH_MODE"] = "token"


def is_off() -> bool:
    """Whether somebody turned it off on purpose."""
    return os.environ.get("RAY_AUTH_MODE", "token") != "token"


def head_channel(address: str) -> Any:
    """A gRPC channel to a Ray head, by the certificates that Ray itself would use (RAY_USE_TLS and RAY_TLS_*), without a token."""
    import grpc

    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return grpc.insecure_channel(address)
    ca, key, cert = (Path(os.environ[f"RAY_TLS_{name}"]).read_bytes() for name in ("CA_CERT", "SERVER_KEY", "SERVER_CERT"))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))


def head_metadata() -> list[tuple[str, str]]:
    """What a call to a Ray head carries beside it: the token, where there is one."""
    if is_off():
        return []
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or token_file()).expanduser()
    if not token and file.exists():
        token = file.read_text(encoding="utf-8").strip()
    return [("authorization", f"Bearer {token}")] if token else []


def token_file() -> Path:
    return Path("~/.ray/auth_token").expanduser()


def make_token() -> Path:
    """The token file, made where it is missing. Ray's own command for it takes seconds to load."""
    token = token_file()
    if not token.exists():
        token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="utf-8")
    token.chmod(0o600)
    return token


def came_too_late() -> bool:
    """Whether Ray was imported before `settle` and without a mode: it then believes that authentication is off."""
    return "RAY_AUTH_MODE" not in os.environ
