"""A front for the cold start: takes a request, wakes the model, forwards. `python cold_start_front.py PREPARED STATE NUM_CPUS`.

What a gateway does and no more, so that the figures are those of the parked processes. It prints its port. `POST /zero`: the model leaves.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
import uvloop
from cold_start_world import NAME, PATH

from serve_apps.parking.lot import ParkingLot
from serve_apps.parking.messages import Adoption
from serve_apps.parking.rules import Rules
from serve_apps.replica_settings import ReplicaSettings
from serve_apps.serve_options import ServeOptions
from serve_apps.server import bind

VERSION = "1"


class Front:
    def __init__(self, lot: ParkingLot, session: aiohttp.ClientSession) -> None:
        self._lot = lot
        self._session = session

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        status, content = await self._answer(scope["path"], body)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(content))]})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if path == PATH:
            at = await self._lot.wake(NAME, VERSION)
            url = f"http://{at.host}:{at.port}{PATH}"
            async with self._session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
                return answer.status, await answer.read()
        self._lot.drop(NAME, VERSION)
        return 200, b"{}"


async def main(prepared: Path, state: Path, num_cpus: int) -> None:
    settings = ReplicaSettings(NAME, VERSION, "", state.as_uri(), state, ServeOptions(), num_cpus=1, user="bench")
    adoption = Adoption(settings, prepared)
    lot = ParkingLot(lambda _model: adoption, log_file=state / "parked.log", rules=Rules(num_cpus=num_cpus, max_parked=num_cpus))
    lot.start()
    listener = bind("127.0.0.1")
    async with aiohttp.ClientSession() as session:
        config = uvicorn.Config(
            Front(lot, session), lifespan="off", ws="none", access_log=False, log_level="warning", timeout_keep_alive=600
        )
        serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[listener]))
        print(listener.getsockname()[1], flush=True)
        await serving
    await lot.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
