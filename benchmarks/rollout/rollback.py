"""How soon a bad version is out of traffic: from the command to the last request that it answered, while it has half of 200 a second.

The product's directory, ingress, HAProxy and replicas, each in its process; only Ray Serve is replaced by plain ones (`live_world.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from live_load import SteadyLoad
from live_world import NAME, LiveFabric, live_fabric
from measure import median, report

from serve_apps.rollout.spec import Canary

GOALS = {"rollback_s": "<= 2", "lost_requests": "<= 0"}
_SPEC = Canary(steps=[50, 100], soak=600.0, guards=["error_rate<=+50%"])
_WARM_S, _AFTER_S = 2.0, 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0)
    args = parser.parse_args()
    took_s, lost, total = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="rollback-") as folder, live_fabric(Path(folder)) as fabric:
        fabric.deploy("")
        for _ in range(args.rounds):
            one_s, load = _round(fabric, args.rate)
            took_s.append(one_s)
            lost += load.seen.lost
            total += load.seen.total
            print(f"{one_s:.3f} s, lost {load.seen.lost} of {load.seen.total} {load.seen.why_lost}", file=sys.stderr)
    figures = {"rollback_s": max(took_s), "rollback_s_p50": median(took_s), "lost_requests": lost, "requests": total, "rounds": args.rounds}
    report(figures, GOALS, as_json=args.json)


def _round(fabric: LiveFabric, rate: float) -> tuple[float, SteadyLoad]:
    record = fabric.deploy("", rollout=_SPEC)
    fabric.until(lambda: fabric.rollout()["state"] == "stepping", 60.0)
    with SteadyLoad(f"{fabric.url}/v2/models/{NAME}/infer", rate) as load:
        fabric.until(lambda: load.seen.by.get(record.version, 0) > 20, 30.0)
        time.sleep(_WARM_S)
        began_s = time.monotonic()
        fabric.ask(fabric.shell.roll_back(NAME, "", "bench"))
        time.sleep(_AFTER_S)
    return max(0.0, load.seen.last_s[record.version] - began_s), load


if __name__ == "__main__":
    main()
