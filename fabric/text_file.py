"""Reads a text file that a user named."""

from __future__ import annotations

from pathlib import Path

from fabric.errors import ConfigError


def read_text(path: Path, noun: str) -> str:
    """Raises: ConfigError `no_such_file`, `unreadable_file`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no {noun} at {path}", code="no_such_file", hint="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the {noun} {path} cannot be read: {error}", code="unreadable_file", hint="it must be a text file") from None
