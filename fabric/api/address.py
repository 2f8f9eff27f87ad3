"""Where the API of this machine's fabric is: a small file in the state directory, written by its server, read by clients."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from fabric.errors import UnavailableError

ADDRESS_FILE, TOKEN_FILE = "api.json", "token"


def write_address(file: Path, url: str) -> None:
    """Raises: OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    aside.write_text(json.dumps({"url": url, "api": "v1", "pid": os.getpid()}) + "\n", encoding="utf-8")
    aside.replace(file)


def read_address(file: Path) -> str:
    """Raises: UnavailableError (no fabric runs with this state directory)."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"no fabric's API is known here ({file})"
        raise UnavailableError(message, hint="`fabric up` starts one; FABRIC_API_URL names another") from error


def is_ours(file: Path) -> bool:
    """Whether this process wrote it."""
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("pid") == os.getpid())
    except (OSError, ValueError, AttributeError):
        return False
