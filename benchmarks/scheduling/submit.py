"""What a submission takes on a running fabric: a callable until its first line runs, against Ray's Jobs API; and durable submissions.

Both run on the same twin, in turns. The jobs of the durable part all come after one that does not end, so that they only queue.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import median, options, report

import fabric
from fabric.config import DashboardConfig, FabricConfig
from fabric.jobs import job

BATCHES, BATCH, SERIAL, FSYNCS = 50, 100, 300, 50
RAY_TIMEOUT_S = 60.0
SETTLE_S = 10.0
"""Ray takes so long to take its last jobs' processes down: that is not what a submission costs."""
GOALS = {"callable_ratio": "<= 0.15", "submits_per_s": ">= 2000", "submit_ms_p50": "<= 5 + fsync"}


def main() -> None:
    args = options(__doc__ or "", rounds=7)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FABRIC_STATE_DIR"] = folder
        port = free_port()
        fabric.connect(config=FabricConfig(state_dir=Path(folder), dashboard=DashboardConfig(enabled=True, port=port)))
        figures = first_lines(args.rounds, port)
        time.sleep(SETTLE_S)
        figures |= durable(Path(folder))
        report(figures, GOALS, as_json=args.json)
        fabric.disconnect()


def first_lines(rounds: int, port: int) -> dict[str, Any]:
    """Seconds from the call that submits to the first line of the user's code, by the same clock on the same machine."""
    from ray.job_submission import JobSubmissionClient

    ray_jobs = JobSubmissionClient(f"http://127.0.0.1:{port}")
    for warm in (ours, lambda: theirs(ray_jobs)):
        warm()
    pairs = []
    for index in range(rounds):
        order: list[Callable[[], float]] = [ours, lambda: theirs(ray_jobs)]
        times = [take() for take in (order if index % 2 else reversed(order))]
        pairs.append(tuple(times if index % 2 else reversed(times)))
    return {
        "callable_ratio": median([ours_s / theirs_s for ours_s, theirs_s in pairs]),
        "callable_ms_p50": 1e3 * median([ours_s for ours_s, _ in pairs]),
        "ray_jobs_ms_p50": 1e3 * median([theirs_s for _, theirs_s in pairs]),
        "rounds": rounds,
    }


def ours() -> float:
    began_s = time.time()
    began_there_s: float = fabric.submit(time.time).result(timeout_s=60)
    return began_there_s - began_s


def theirs(client: Any) -> float:
    began_s = time.time()
    name = client.submit_job(entrypoint=f"{sys.executable} -c 'import time; print(time.time())'")
    while not client.get_job_status(name).is_terminal():
        if time.time() - began_s > RAY_TIMEOUT_S:
            raise TimeoutError(name)
        time.sleep(0.05)
    # Ray's own lines stand in the same log.
    return float(client.get_job_logs(name).strip().splitlines()[-1]) - began_s


def durable(folder: Path) -> dict[str, Any]:
    first = fabric.submit("sleep 600", name="first", working_dir=None)

    def one(number: int) -> Any:
        return job(
            f"python train.py --lr {number}",
            cpus=1,
            name=f"train-{number}",
            working_dir=None,
            after=[first.id],
            deadline="6h",
            tags={"run": str(number)},
        )

    serial_s = [timed(lambda number=number: fabric.submit_many([one(number)])) for number in range(SERIAL)]
    batches_s = [
        timed(lambda start=start: fabric.submit_many([one(number) for number in range(start, start + BATCH)]))
        for start in range(0, BATCHES * BATCH, BATCH)
    ]
    figures = {
        "submits_per_s": BATCHES * BATCH / sum(batches_s),
        "batch_ms_p50": 1e3 * median(batches_s),
        "submit_ms_p50": 1e3 * median(serial_s),
        "submit_ms_p99": 1e3 * sorted(serial_s)[int(0.99 * SERIAL)],
        "fsync_ms_p50": 1e3 * median(fsyncs(folder)),
        "jobs": BATCHES * BATCH,
    }
    first.cancel()
    return figures


def fsyncs(folder: Path) -> list[float]:
    """Of 4 KiB more each time, on the journal's disk."""
    with (folder / "fsync").open("wb", buffering=0) as file:

        def once() -> None:
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())

        return [timed(once) for _ in range(FSYNCS)]


def timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
