"""Where the console of this machine's fabric is: what stands in `console.json`, and the address with a token in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from fabric.api.address import read_address
from fabric.errors import UnavailableError

CONSOLE_FILE = "console.json"


def read_console(file: Path) -> str:
    """Its URL. Raises: UnavailableError."""
    try:
        return read_address(file)
    except UnavailableError as error:
        hint = "`fabric up` starts one, unless console.enabled is false"
        raise UnavailableError(f"no console is known here ({file})", code="no_console", hint=hint) from error


def last_port(file: Path) -> int:
    """Of the console that wrote the file; 0: there was none."""
    try:
        return urlsplit(read_address(file)).port or 0
    except (UnavailableError, ValueError):
        return 0


def with_token(url: str, token: str) -> str:
    """Behind the `#`: a browser sends that to nobody, and the page takes it out of the address bar."""
    return f"{url}/#token={token}"
