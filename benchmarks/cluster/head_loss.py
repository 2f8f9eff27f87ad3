"""The head of a cluster is killed: how soon jobs are admitted again, and what a served model's users notice meanwhile.

A head and a worker in network namespaces; a model on the worker, asked 50 times a second (open loop) at the worker's own ingress. Every
process of Ray's on the head gets SIGKILL; the watchdog stays. Needs root, iproute2, sshd, rsync.

    first_job_s       from the kill until a job that is submitted again and again from then on has been admitted and has run
    failed_requests   requests to the model that were not answered with 200 within 5 s, from 5 s before the kill until 10 s after the job
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.measure import median, options, report
from tests.cluster_files import cluster, write
from tests.laptop import Laptop
from tests.machines import Machine, World

RATE = 50.0
REQUEST_TIMEOUT_S = 5.0
BEFORE_S, AFTER_S, GIVE_UP_S = 5.0, 10.0, 120.0
HEAD_PROCESSES = "gcs_server|raylet|ray::|dashboard|monitor.py|log_monitor|ray start|ray.util.client"
HASTY = """
import sys, time
import fabric
fabric.submit("true", cpus=0.1).wait()
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        job = fabric.submit("true", cpus=0.1)
        break
    except fabric.FabricError:
        time.sleep(0.1)
while True:
    try:
        print(job.wait(), flush=True)
        break
    except fabric.FabricError:
        time.sleep(0.1)
"""
MODEL = """
import fabric
from serve_apps import ModelService
class Shout(ModelService):
    def __init__(self, mark):
        self.mark = mark
    def predict(self, input_text):
        return input_text.upper() + self.mark
fabric.connect("auto")
service = Shout("!").deploy(name="shout", replicas=1, tier="hot")
print(service.url)
"""


def main() -> None:
    asked = options(__doc__ or "", rounds=3)
    rounds = [one_round() for _ in range(asked.rounds)]
    figures: dict[str, Any] = {
        "first_job_s": median([found["first_job_s"] for found in rounds]),
        "failed_requests": max(found["failed_requests"] for found in rounds),
        "requests": sum(found["requests"] for found in rounds),
        "ray_back_s": median([found["ray_back_s"] for found in rounds]),
        "slowest_request_s": max(found["slowest_request_s"] for found in rounds),
        "rounds": len(rounds),
    }
    report(figures, {"first_job_s": "<= 10", "failed_requests": "0"}, as_json=asked.json)


def one_round() -> dict[str, float]:
    with World(2) as world, tempfile.TemporaryDirectory() as home:
        head, worker = world.machines
        laptop = Laptop(Path(home))
        config = cluster(world, {"hot": [worker]}, settings={"serving": {"host": "0.0.0.0", "require_token": "never"}})
        path = write(world.root / "lab.yaml", config)
        up = laptop.run("fabric", "up", str(path))
        assert up.returncode == 0, up.stderr
        (head.home / "model.py").write_text(MODEL)
        head.run("~/.tierfabric/run python model.py", timeout_s=150)
        try:
            return asyncio.run(_lose(head, f"http://{worker.address}:8000/shout/predict"))
        finally:
            laptop.run("fabric", "down", str(path), "--yes")


async def _lose(head: Machine, url: str) -> dict[str, float]:
    load = _Load(url)
    await load.warm()
    user = await asyncio.to_thread(_HastyUser, head)
    asking = asyncio.create_task(load.run())
    await asyncio.sleep(BEFORE_S)
    killed = await asyncio.to_thread(head.kill, HEAD_PROCESSES)
    assert killed > 3, "nothing was killed"
    killed_s = time.monotonic()
    back = asyncio.create_task(asyncio.to_thread(_await_ray, head, killed_s))
    first_job_s = await asyncio.to_thread(user.await_job, killed_s)
    await asyncio.sleep(AFTER_S)
    load.stop()
    await asking
    return {
        "first_job_s": first_job_s,
        "failed_requests": float(load.failed),
        "requests": float(load.sent),
        "slowest_request_s": load.slowest_s,
        "ray_back_s": await back,
    }


def _await_ray(head: Machine, killed_s: float) -> float:
    status = head.home / ".tierfabric" / "node" / "status.json"
    while time.monotonic() - killed_s < GIVE_UP_S:
        known = json.loads(status.read_text())
        if known["state"] == "up" and known["restarts"] >= 1:
            return time.monotonic() - killed_s
        time.sleep(0.05)
    raise AssertionError("Ray never came back")


class _HastyUser:
    """Submits a job again and again from the kill on until it is taken, and waits for its end: one process, started before."""

    def __init__(self, head: Machine) -> None:
        (head.home / "hasty.py").write_text(HASTY)
        self._process = subprocess.Popen(
            head.enter("~/.tierfabric/run python hasty.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def await_job(self, killed_s: float) -> float:
        out, _ = self._process.communicate("go\n", timeout=GIVE_UP_S)
        assert "SUCCEEDED" in out, out
        return time.monotonic() - killed_s


class _Load:
    """Open loop: each request goes at its time, whatever became of those before."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopped = asyncio.Event()
        self.sent = self.failed = 0
        self.slowest_s = 0.0

    def stop(self) -> None:
        self._stopped.set()

    async def warm(self) -> None:
        """Until the worker's ingress answers."""
        async with aiohttp.ClientSession() as session:
            for _ in range(300):
                if await self._ask(session):
                    return
                await asyncio.sleep(0.2)
        raise AssertionError("the worker's ingress never answered")

    async def run(self) -> None:
        begun_s, tasks = time.monotonic(), set()
        async with aiohttp.ClientSession() as session:
            while not self._stopped.is_set():
                tasks.add(asyncio.create_task(self._one(session)))
                await asyncio.sleep(max(0.0, begun_s + len(tasks) / RATE - time.monotonic()))
            await asyncio.gather(*tasks)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        self.sent += 1
        started_s = time.monotonic()
        if not await self._ask(session):
            self.failed += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)

    async def _ask(self, session: aiohttp.ClientSession) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
            async with session.post(self._url, json={"input_text": "hello"}, timeout=timeout) as answer:
                return answer.status == 200 and (await answer.json()) == {"result": "HELLO!"}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False


if __name__ == "__main__":
    main()
