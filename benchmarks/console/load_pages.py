"""Open pages, as a process of its own: each follows the events and fetches a window of jobs, nodes and timeline now and then.

Reads `open N` and `close` from stdin and answers when that is done. It runs at the lowest priority: browsers are on other machines.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter

import aiohttp

WINDOW_S = 5.0
PATHS = (
    "/v1/console/jobs?limit=100",
    "/v1/console/timeline?limit=40",
    "/v1/console/nodes?limit=100",
    "/v1/console/jobs?state=PENDING&text=job-1",
)


class Pages:
    def __init__(self, url: str, token: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._tasks: list[asyncio.Task[None]] = []
        self.seen: Counter[str] = Counter()

    async def open(self, num: int) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            self._url, headers=self._headers, connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        )
        ready = [asyncio.Event() for _ in range(num)]
        for number in range(num):
            self._tasks += [asyncio.create_task(self._follow(ready[number])), asyncio.create_task(self._fetch(number))]
        await asyncio.wait_for(asyncio.gather(*(each.wait() for each in ready)), 60)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._session.close()

    async def _follow(self, ready: asyncio.Event) -> None:
        async with self._session.get("/v1/console/events") as reply:
            reply.raise_for_status()
            async for line in reply.content:
                if line.startswith(b"event: "):
                    ready.set()
                    self.seen[line[7:].decode().strip()] += 1

    async def _fetch(self, number: int) -> None:
        chance = random.Random(number)
        while True:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * WINDOW_S)
            async with self._session.get(chance.choice(PATHS)) as reply:
                reply.raise_for_status()
                await reply.read()
                self.seen["windows"] += 1


async def run(pages: Pages) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, *rest = line.split()
        if verb == "open":
            await pages.open(int(rest[0]))
        else:
            await pages.close()
        print(json.dumps(pages.seen), flush=True)
        pages.seen.clear()


def main() -> None:
    os.nice(19)
    print("{}", flush=True)
    asyncio.run(run(Pages(sys.argv[1], sys.argv[2])))


if __name__ == "__main__":
    main()
