"""How long the first request waits when no process holds its model: 100 cycles from zero with a model of 256 MiB, its answer included.

Zero is proved before each request: no process has a file of the model mapped or open, and parked processes, at most one per CPU, have
fewer private pages than the model has. `cold.*`: the model's files are not in the page cache either. The peer is plain Ray Serve with
`min_replicas=0`, the same model and the same machine in the same run.

Options: `--json`, `--rounds 100`, `--cold-rounds 30`, `--peer-rounds 3` (0: without the peer), `--folder` (kept, to be used again).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cold_start_front import PATH
from cold_start_world import WIDTH, cool, holders, private_bytes, warm, write_model
from measure import median, report

from serve_apps.parking.page_cache import populate

GOALS = {"ms_p50": "<= 150", "ms_p99": "<= 200"}
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": [0.5] * WIDTH}]}).encode()
_MOST_PRIVATE_BYTES = 64 * 2**20
_UNTIL_S = 60.0
_HERE = Path(__file__).parent


def main() -> None:
    args = options()
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cold-start-")))
        model, prepared = made(folder)
        with front(prepared, folder / "state") as client:
            warm(prepared)
            figures = summary("", [one(client, prepared, warm) for _ in range(args.rounds)])
            figures |= summary("cold.", [one(client, prepared, cool) for _ in range(args.cold_rounds)])
            figures |= {"cold.bare_read_ms_p50": median([bare_read_ms(prepared) for _ in range(9)])}
            figures |= memory(client)
        if args.peer_rounds:
            warm(prepared)
            peer_ms = ray_serve_ms(model, args.peer_rounds)
            figures |= {"ray_serve_ms_p50": median(peer_ms), "ratio.ray_serve": figures["ms_p50"] / median(peer_ms)}
    report(figures, GOALS, as_json=args.json)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--cold-rounds", type=int, default=30)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    return parser.parse_args()


def made(folder: Path) -> tuple[Path, Path]:
    """The model's file and its prepared folder, written if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    model = folder / "model.onnx"
    if not model.exists():
        write_model(model)
    # In a process of its own: this one must hold nothing of the model.
    code = (
        "import sys; from pathlib import Path; from serve_apps.runtimes.prepared import prepare; print(prepare(*map(Path, sys.argv[1:])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(model), str(folder / "cache")], capture_output=True, text=True, check=True)
    return model, Path(done.stdout.strip().splitlines()[-1])


class Client:
    """One caller with one connection to the front."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_UNTIL_S)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, float, float]:
        """The answer, the milliseconds that it took, and those that the waking took of them."""
        started_s = time.perf_counter()
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        took_ms = 1e3 * (time.perf_counter() - started_s)
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}: {content[:300]!r}")
        return content, took_ms, float(answer.headers.get("x-wake-ms") or 0.0)

    def until_parked(self) -> list[int]:
        """Wait until a process is parked for each CPU, as where no model is awake; their pids."""
        deadline_s = time.monotonic() + _UNTIL_S
        while time.monotonic() < deadline_s:
            parked: list[int] = json.loads(self.ask("GET", "/state")[0])["parked"]
            if len(parked) == os.cpu_count():
                return parked
            time.sleep(0.02)
        raise SystemExit("no processes are parked")


def one(client: Client, prepared: Path, ready: Callable[[Path], None]) -> tuple[float, float]:
    """One cycle: zero is proved, one request, back to zero. (milliseconds, those of the waking). `ready`: for the page cache."""
    parked = client.until_parked()
    ready(prepared)
    if held := holders(prepared):
        raise SystemExit(f"not zero: {held} hold the model")
    if len(parked) > (os.cpu_count() or 1) or any(private_bytes(pid) > _MOST_PRIVATE_BYTES for pid in parked):
        raise SystemExit(f"not zero: {parked}")
    content, took_ms, wake_ms = client.ask("POST", PATH, BODY)
    if len(json.loads(content)["outputs"][0]["data"]) != WIDTH:
        raise SystemExit(f"wrong answer: {content[:300]!r}")
    client.ask("POST", "/zero")
    return took_ms, wake_ms


def bare_read_ms(prepared: Path) -> float:
    """What the disk takes for the weights alone, in the way in which a parked process reads them."""
    cool(prepared)
    started_s = time.perf_counter()
    populate(prepared / "mapped.bin")
    return 1e3 * (time.perf_counter() - started_s)


def memory(client: Client) -> dict[str, object]:
    client.until_parked()
    held = json.loads(client.ask("GET", "/memory")[0])
    return {
        "parked.count": len(held["parked"]),
        "parked.cpus": os.cpu_count(),
        "parked.pss_mib": round(median(held["parked"]) / 2**20, 1),
        "zygote.pss_mib": round(held["zygote"] / 2**20, 1),
    }


def summary(prefix: str, cycles: list[tuple[float, float]]) -> dict[str, Any]:
    if not cycles:
        return {}
    took_ms, wake_ms = (sorted(part) for part in zip(*cycles, strict=True))
    return {
        f"{prefix}ms_p50": median(took_ms),
        f"{prefix}ms_p99": statistics.quantiles(took_ms, n=100, method="inclusive")[98] if len(took_ms) > 1 else took_ms[0],
        f"{prefix}ms_max": took_ms[-1],
        f"{prefix}wake_ms_p50": median(wake_ms),
        f"{prefix}rounds": len(took_ms),
    }


@contextlib.contextmanager
def front(prepared: Path, state: Path) -> Iterator[Client]:
    command = [sys.executable, str(_HERE / "cold_start_front.py"), str(prepared), str(state), str(os.cpu_count())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        yield Client(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(_UNTIL_S)
        process.stdout.close()


def ray_serve_ms(model: Path, num_rounds: int) -> list[float]:
    command = [sys.executable, str(_HERE / "cold_start_ray.py"), str(model), str(num_rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    took_ms: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return took_ms


if __name__ == "__main__":
    main()
