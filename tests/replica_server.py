"""A replica's own server on a real port, in a thread: the protocol's application around models, as replicas run it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterable
from typing import Any

import uvicorn

from serve_apps.gateway.table import Address
from serve_apps.oip.dataplane import DataPlane
from serve_apps.oip.rest import RestApp


class ReplicaServer:
    """`stop` ends it at once, as when a replica dies."""

    def __init__(self, models: Iterable[Any], **options: Any) -> None:
        self.plane = DataPlane("replica", "0")
        for model in models:
            self.plane.add(model)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listening.getsockname()[1])
        app = RestApp(self.plane, **options)
        config = uvicorn.Config(app, loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False, log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> ReplicaServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10.0)
        self._listening.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._listening]))
