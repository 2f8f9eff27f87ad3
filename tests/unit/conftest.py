"""The fence of the unit tests: none of them opens a connection, or depends on a terminal."""

from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, address: Any, *_rest: Any) -> None:
        pytest.fail(f"a unit test connects to {address!r}: it belongs in tests/cluster or tests/e2e")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as in a pipe, whatever terminal the tests are started from (or pytest-xdist makes up)."""
    monkeypatch.delenv("COLUMNS", raising=False)
