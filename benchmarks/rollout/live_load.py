"""Requests at a steady rate, each on its own time, and what became of them: by whom it was answered, when, and with which status."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field

import aiohttp

_BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [4], "data": [1.0, 2.0, 3.0, 4.0]}]}
_LOST = frozenset({502, 503, 504})


@dataclass(slots=True)
class Seen:
    """`by`: requests by the version that answered; `last_s`: when the last one of each was answered, on the monotonic clock; `lost`:
    requests that no version answered; `failed`: that a model answered with an error."""

    by: dict[str, int] = field(default_factory=dict)
    last_s: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    failed: int = 0
    why_lost: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.by.values()) + self.lost + self.failed


class SteadyLoad:
    """From `with` to its end. Open loop: a slow answer delays no other request."""

    def __init__(self, url: str, rate_per_s: float) -> None:
        self._url, self._rate = url, rate_per_s
        self.seen = Seen()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(30)

    async def _run(self) -> None:
        body = json.dumps(_BODY).encode()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session:
            tasks: set[asyncio.Task[None]] = set()
            began_s, count = time.monotonic(), 0
            while not self._is_over.is_set():
                count += 1
                await asyncio.sleep(max(0.0, began_s + count / self._rate - time.monotonic()))
                task = asyncio.create_task(self._one(session, body))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _one(self, session: aiohttp.ClientSession, body: bytes) -> None:
        seen = self.seen
        try:
            async with session.post(self._url, data=body, headers={"content-type": "application/json"}) as answer:
                said = await answer.read()
                if answer.status == 200:
                    version = json.loads(said)["model_version"]
                    seen.by[version] = seen.by.get(version, 0) + 1
                    seen.last_s[version] = time.monotonic()
                elif answer.status in _LOST:
                    self._lose(f"{answer.status} {said[:200]!r}")
                else:
                    seen.failed += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self._lose(f"{type(error).__name__}: {error}")

    def _lose(self, why: str) -> None:
        self.seen.lost += 1
        if len(self.seen.why_lost) < 10:
            self.seen.why_lost.append(why)
