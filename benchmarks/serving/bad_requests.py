"""Bad requests by the hundred thousand against a real server: no undeclared error, no crash, no growth of memory.

`python benchmarks/serving/bad_requests.py [--json] [--requests N] [--seed S]` starts a replica with a gateway in front, in one process
of its own; `--url URL --grpc HOST:PORT --pid PID` take a server that runs. Every 500th request is a good one, and must be answered.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bad_request_makers import MODEL_FAILS, Call, endless  # noqa: E402

from benchmarks.measure import median, report  # noqa: E402
from tests.foreign.cases import FP32, ONE, Case, infer  # noqa: E402

DECLARED = {501, 503, 504}
"""Statuses of 5xx that the protocol's page declares for a caller's request; 500 is for a model that fails."""
DECLARED_GRPC = {"CANCELLED", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
LANES = 4
EVERY = 500
SAMPLES = 200
GZIP = "gzip bomb"
"""Sent in the first fifth only: what it leaves in the heap for a while would hide what grows."""
GOOD = infer("good", FP32, ONE)
GOALS = {"undeclared": "0", "crashes": "0", "good_failed": "0", "rss_growth_mib": "<= 8"}


class Lane:
    """One keep-alive connection and one channel; sends its share of the requests."""

    def __init__(self, url: str, address: str, seed: int) -> None:
        self._host = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=60)
        self._channel = grpc.insecure_channel(address, [("grpc.max_send_message_length", 2**30)]) if address else None
        self._requests = endless(seed)
        self.statuses: collections.Counter[str] = collections.Counter()
        self.undeclared: list[str] = []
        self.good_failed = 0

    def run(self, count: int, memory: Memory | None = None) -> None:
        for number in range(count):
            if memory is not None and number % max(1, count // SAMPLES) == 0:
                memory.sample()
            if number % EVERY == 0:
                status, body = self.over_http(GOOD)
                self.good_failed += status != 200 or b"[1.5,-2.5]" not in body
                continue
            request = next(self._requests)
            if isinstance(request, Case) and request.name == GZIP and number > count // 5:
                continue
            if isinstance(request, Case):
                self.judge_http(request, *self.over_http(request))
            elif self._channel is not None:
                self.over_grpc(request)

    def over_http(self, case: Case) -> tuple[int, bytes]:
        for attempt in (1, 2):
            try:
                self._connection.request(case.method, case.path, case.body or None, dict(case.headers))
                reply = self._connection.getresponse()
                return reply.status, reply.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A server may close the connection on a request that is no HTTP, or too large; twice in a row is a crash.
                if attempt == 2:
                    return 0, repr(error).encode()
        raise AssertionError

    def judge_http(self, case: Case, status: int, body: bytes) -> None:
        self.statuses[str(status)] += 1
        is_declared = 200 <= status < 500 or status in DECLARED or (status == 500 and case.name == MODEL_FAILS)
        if not is_declared:
            self.undeclared.append(f"{status} {body[:200]!r} <- {case.method} {case.path} {case.headers} {case.body[:300]!r}")

    def over_grpc(self, call: Call) -> None:
        assert self._channel is not None
        method = f"/inference.GRPCInferenceService/{call.method}"
        try:
            if call.method == "ModelStreamInfer":
                list(self._channel.stream_stream(method)(iter([call.message]), timeout=60))
            else:
                self._channel.unary_unary(method)(call.message, timeout=60)
            name = "OK"
        except grpc.RpcError as error:
            name = error.code().name
            if name in ("INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
                self.undeclared.append(f"{name}: {error.details()[:200]} <- {call.method} {call.message[:200]!r}")
        self.statuses[name] += 1


class Memory:
    """The resident memory of a process, in MiB, sampled as requests go by: time says nothing on a machine that others use."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.samples: list[float] = []

    def sample(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.samples.append(self._process.memory_info().rss / 2**20)

    def growth_mib(self) -> float:
        """What the last tenth of the run has over its third tenth: pools and caches are filled by then."""
        tenth = max(1, len(self.samples) // 10)
        return median(self.samples[-tenth:]) - median(self.samples[2 * tenth : 3 * tenth] or self.samples[:1])

    def by_tenth(self) -> list[float]:
        tenth = max(1, len(self.samples) // 10)
        return [round(median(self.samples[at : at + tenth]), 1) for at in range(0, tenth * 10, tenth) if self.samples[at : at + tenth]]


@contextlib.contextmanager
def own_server():
    """A replica and a gateway in one process: URL, gRPC address, process id."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "foreign" / "replica.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, cwd=ROOT, **pipes) as process:
        _, url, address, _ = process.stdout.readline().split()
        yield url, address, process.pid
        process.communicate("", timeout=30)


def measured(url: str, address: str, pid: int, *, requests: int, seed: int) -> dict[str, object]:
    memory = Memory(pid)
    lanes = [Lane(url, address, seed + place) for place in range(LANES)]
    started_s = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        list(pool.map(lambda lane: lane.run(requests // LANES, memory if lane is lanes[0] else None), lanes))
    took_s = time.monotonic() - started_s
    statuses = sum((lane.statuses for lane in lanes), collections.Counter())
    undeclared = [each for lane in lanes for each in lane.undeclared]
    for each in undeclared[:10]:
        print(each, file=sys.stderr)
    return {
        "requests": requests,
        "undeclared": len(undeclared),
        "crashes": int(not psutil.pid_exists(pid)),
        "good_failed": sum(lane.good_failed for lane in lanes),
        "rss_growth_mib": round(memory.growth_mib(), 2),
        "rss_mib": memory.by_tenth(),
        "requests_per_s": round(requests / took_s),
        "answers": dict(sorted(statuses.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url")
    parser.add_argument("--grpc", default="")
    parser.add_argument("--pid", type=int)
    options = parser.parse_args()
    if options.url:
        figures = measured(options.url, options.grpc, options.pid or os.getpid(), requests=options.requests, seed=options.seed)
    else:
        with own_server() as (url, address, pid):
            figures = measured(url, address, pid, requests=options.requests, seed=options.seed)
    if options.json:
        print(json.dumps(figures))
    else:
        report(figures, GOALS, as_json=False)


if __name__ == "__main__":
    main()
