"""What a submission costs before any journal: client, HTTP on this machine and the API, over a job plane in memory.

In hundreds and one after another, by one client, against a server in a process of its own, whose jobs all wait. The
durable figures are those of `submit.py`; this is their floor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from fabric.api.address import ADDRESS_FILE, TOKEN_FILE, read_address
from fabric.api.tokens import read_token_file
from fabric.api_client import ApiClient, HttpTransport
from fabric.jobs import Jobs, job
from fabric.show import table

START_TIMEOUT_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--jobs", type=int, default=5_000, help="submitted in hundreds")
    parser.add_argument("--serial", type=int, default=500, help="submitted one after another")
    parser.add_argument("--serve", metavar="DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(Path(args.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([sys.executable, __file__, "--serve", folder], stdin=subprocess.PIPE)
        try:
            figures = measure(Path(folder), server.pid, args.jobs, args.serial)
        finally:
            server.communicate(timeout=30)  # its standard input ends, and it with it
    if args.json:
        print(json.dumps(figures))
        return
    print(table(["figure", "measured"], [[name, f"{value:.4g}"] for name, value in figures.items()], right=(1,)))


def serve(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for tests.memory_plane
    from fabric.api.app import create_app
    from fabric.api.serve import ApiServer
    from fabric.api.tokens import Tokens, ensure_token_file
    from tests.memory_plane import Documents, MemoryPlane

    # No nodes: what is measured is the way to the plane, not how it decides.
    plane, tokens = MemoryPlane(folder, nodes=(), runs=False, checks=False), Tokens(Documents())
    ensure_token_file(folder / TOKEN_FILE, tokens, "bench")
    server = ApiServer(create_app(plane, tokens), address_file=folder / ADDRESS_FILE)
    server.start()
    sys.stdin.read()
    server.stop()


def measure(folder: Path, server_pid: int, num_jobs: int, num_serial: int) -> dict[str, Any]:
    until_s = time.monotonic() + START_TIMEOUT_S
    while not (folder / ADDRESS_FILE).exists() and time.monotonic() < until_s:
        threading.Event().wait(0.05)
    url, token = read_address(folder / ADDRESS_FILE), read_token_file(folder / TOKEN_FILE)
    jobs = Jobs(ApiClient(HttpTransport(lambda: url), lambda: token))
    jobs.submit(job("true", name="first", working_dir=None))
    serial_s = [timed(partial(one, jobs, i)) for i in range(num_serial)]
    server, before_s, began_cpu_s = psutil.Process(server_pid), time.process_time(), cpu_s(psutil.Process(server_pid))
    batches_s = [timed(partial(hundred, jobs, start)) for start in range(0, num_jobs, 100)]
    client_cpu_s, server_cpu_s = time.process_time() - before_s, cpu_s(server) - began_cpu_s
    listed_s = timed(lambda: jobs.api.get("/v1/jobs", {"limit": 1000}))
    health_s = [timed(lambda: jobs.api.get("/v1/health")) for _ in range(200)]
    return {
        "submits_per_s": 100 * len(batches_s) / sum(batches_s),
        # What it costs whatever else the machine does.
        "client_cpu_us_per_job": 1e6 * client_cpu_s / (100 * len(batches_s)),
        "server_cpu_us_per_job": 1e6 * server_cpu_s / (100 * len(batches_s)),
        "batch_ms_p50": 1000 * median(batches_s),
        "submit_ms_p50": 1000 * median(serial_s),
        "submit_ms_p99": 1000 * sorted(serial_s)[int(0.99 * len(serial_s))],
        "round_trip_ms_p50": 1000 * median(health_s),
        "list_1000_ms": 1000 * listed_s,
        "jobs": num_jobs,
    }


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def one(jobs: Jobs, number: int) -> None:
    jobs.submit(a_job(number))


def hundred(jobs: Jobs, start: int) -> None:
    jobs.submit_many([a_job(number) for number in range(start, start + 100)])


def a_job(number: int) -> Any:
    return job(
        f"python train.py --lr {number}", gpus="big:1", name=f"train-{number}", deadline="6h", budget_usd=40.0, tags={"run": str(number)}
    )


def timed(work: Any) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
