"""One real twin for all cluster tests: three raylets, all fabric actors, its own state directory."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric import auth

auth.settle()


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A connected client of a twin that lives as long as the session."""
    import fabric
    from fabric.config import DashboardConfig, FabricConfig

    state_dir = tmp_path_factory.mktemp("state")
    os.environ["FABRIC_STATE_DIR"] = str(state_dir)
    dashboard = DashboardConfig(enabled=True, port=_free_port())  # Ray's jobs API is the dashboard's
    config = FabricConfig(state_dir=Path(state_dir), dashboard=dashboard)
    client = fabric.connect(config=config)
    yield client
    fabric.disconnect()
    del os.environ["FABRIC_STATE_DIR"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(read)` -> the first truthy answer of `read()` within a deadline."""

    def wait(read: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while True:
            if answer := read():
                return answer
            assert time.monotonic() < deadline_s, f"{read} gave nothing in {timeout_s} s"
            time.sleep(0.05)

    return wait
