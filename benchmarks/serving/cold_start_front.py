"""A front for the cold start: takes a request, wakes the model, forwards. `python cold_start_front.py PREPARED STATE NUM_CPUS`.

What a gateway does and no more, so that the figures are those of the parked processes. It prints its port. Beside the model it answers
`POST /zero` (answered when the model's process is gone), `GET /state` and `GET /memory`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvicorn
import uvloop

from serve_apps.parking.lot import ParkingLot
from serve_apps.parking.messages import Adoption
from serve_apps.parking.rules import Rules
from serve_apps.parking.tenant import pss_bytes
from serve_apps.replica_settings import ReplicaSettings
from serve_apps.serve_options import ServeOptions
from serve_apps.server import bind

NAME, VERSION = "big", "1"
PATH = f"/v2/models/{NAME}/infer"


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
        status, content, wake_ms = await self._answer(scope["path"], body)
        headers = [(b"content-length", b"%d" % len(content)), (b"x-wake-ms", b"%.3f" % wake_ms)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, path: str, body: bytes) -> tuple[int, bytes, float]:
        if path == PATH:
            return await self._forward(body)
        if path == "/zero":
            pid = self._lot.pid_of(NAME, VERSION)
            self._lot.drop(NAME, VERSION)
            await self._lot.until(lambda: pid not in self._lot.pids)
            return 200, b"{}", 0.0
        parked, zygote = self._lot.parked_pids, self._lot.zygote_pid
        if path == "/memory":
            zygote_bytes = pss_bytes(zygote) if zygote else 0
            return 200, orjson.dumps({"parked": [pss_bytes(pid) for pid in parked], "zygote": zygote_bytes}), 0.0
        return 200, orjson.dumps({"parked": parked}), 0.0

    async def _forward(self, body: bytes) -> tuple[int, bytes, float]:
        started_s = time.perf_counter()
        at = await self._lot.wake(NAME, VERSION)
        woken_s = time.perf_counter()
        url = f"http://{at.host}:{at.port}{PATH}"
        async with self._session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
            return answer.status, await answer.read(), 1e3 * (woken_s - started_s)


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
