"""How long the first request waits when no process holds its model: 100 cycles from zero with a model of 256 MiB, its answer included.

Zero is proved before each request: no process has a file of the model mapped or open, and parked processes, one per CPU, have fewer
private pages than the model has. `cold.*`: the weights are not in the page cache either; `cold.bare_read_ms_p50` is what the disk
takes for them alone. The peer is plain Ray Serve with `min_replicas=0`, the same model and the same machine in the same run.

Requests go through the REST port of a whole fabric; `--through front` puts a small front before the parked processes instead, whose
figures are those of the processes alone. Options: `--json`, `--rounds 100`, `--cold-rounds 15`, `--peer-rounds 3` (0: without the peer),
`--folder` (kept, to be used again), `--nice -15` (servers and client ahead of the machine's other work).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cold_start_places import NUM_CPUS, Place, fabric, front, ray_serve_ms
from cold_start_world import cool, holders, private_bytes, warm, write_model
from measure import median, report
from priority import raise_priority

from serve_apps.parking.page_cache import populate
from serve_apps.parking.tenant import pss_bytes

GOALS = {"ms_p50": "<= 150", "ms_p99": "<= 200"}
_MOST_PRIVATE_BYTES = 64 * 2**20


def main() -> None:
    args = options()
    if args.nice:
        raise_priority(args.nice)
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cold-start-")))
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / "model.onnx"
        if not model.exists():
            write_model(model)
        with (fabric if args.through == "fabric" else front)(model, folder) as place:
            figures = measured(place, args.rounds, args.cold_rounds)
        print(figures, file=sys.stderr)  # they took minutes: whatever becomes of the peer, they are seen
        if args.peer_rounds:
            peer_ms = ray_serve_ms(model, args.peer_rounds)
            figures |= {"ray_serve_ms_p50": median(peer_ms), "ratio.ray_serve": figures["ms_p50"] / median(peer_ms)}
    report(figures, GOALS, as_json=args.json)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--cold-rounds", type=int, default=15)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--through", choices=("fabric", "front"), default="fabric")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--nice", type=int, default=0)
    return parser.parse_args()


def measured(place: Place, num_warm: int, num_cold: int) -> dict[str, Any]:
    parked = place.until_zero()
    figures: dict[str, Any] = {
        "parked.count": len(parked),
        "parked.cpus": NUM_CPUS,
        "parked.pss_mib": round(median([pss_bytes(pid) for pid in parked]) / 2**20, 1),
        "zygote.pss_mib": round(pss_bytes(place.zygote()) / 2**20, 1),
    }
    one(place, warm)  # the way in, which has just been started, has been used once then
    figures |= summary("", [one(place, warm) for _ in range(num_warm)])
    if num_cold:
        figures |= summary("cold.", [one(place, cool) for _ in range(num_cold)])
        place.until_zero()
        figures |= {"cold.bare_read_ms_p50": median([bare_read_ms(place.weights) for _ in range(9)])}
    return figures


def one(place: Place, prepare_cache: Callable[[Path], None]) -> float:
    """One cycle, in milliseconds. Raises: SystemExit where it did not begin at zero."""
    parked = place.until_zero()
    prepare_cache(place.weights)
    if (held := holders(place.weights)) or not 0 < len(parked) <= NUM_CPUS:
        raise SystemExit(f"not zero: {held} hold the model, {parked} are parked")
    if any(private_bytes(pid) > _MOST_PRIVATE_BYTES for pid in parked):
        raise SystemExit("not zero: a parked process has as many private pages as a part of the model")
    return place.first_ms()


def bare_read_ms(weights: Path) -> float:
    """What the disk takes for the weights, read as a parked process reads them."""
    cool(weights)
    started_s = time.perf_counter()
    for file in weights.rglob("mapped.bin"):
        populate(file)
    return 1e3 * (time.perf_counter() - started_s)


def summary(prefix: str, took_ms: Sequence[float]) -> dict[str, Any]:
    return {
        f"{prefix}ms_p50": median(took_ms),
        f"{prefix}ms_p99": statistics.quantiles(took_ms, n=100, method="inclusive")[98] if len(took_ms) > 1 else took_ms[0],
        f"{prefix}ms_max": max(took_ms),
        f"{prefix}rounds": len(took_ms),
    }


if __name__ == "__main__":
    main()
