"""How long a user waits: the import, `--help`, and a whole twin until a routed task of each tier has returned.

The peer is `ray.init()` on the same machine in the same run; dashboards are off on both sides.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import median, options, report

IMPORT = "import time; t = time.perf_counter(); import fabric; print((time.perf_counter() - t) * 1e3)"
RAY_INIT = """
import time; t = time.perf_counter()
import ray
ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
@ray.remote
def f(): return 1
ray.get(f.remote())
print(time.perf_counter() - t)
ray.shutdown()
"""
UP = """
import time; t = time.perf_counter()
import fabric
@fabric.task(name="cold")
def cold(): return 1
@fabric.task(name="hot", flavor="hot")
def hot(): return 1
@fabric.task(name="warm", flavor="warm")
def warm(): return 1
fabric.connect()
import ray
ray.get([task.remote() for task in (hot, warm, cold)])
print(time.perf_counter() - t)
fabric.disconnect()
"""


def main() -> None:
    args = options(__doc__ or "", rounds=3)
    imports = [float(run([sys.executable, "-c", IMPORT])) for _ in range(2 * args.rounds + 1)]
    helps = [timed([str(Path(sys.executable).with_name("fabric")), "--help"]) for _ in range(2 * args.rounds + 1)]
    inits, ups = [], []
    for _ in range(args.rounds):
        inits.append(float(run([sys.executable, "-c", RAY_INIT])))
        ups.append(float(run([sys.executable, "-c", UP])))
    report(
        {
            "import_fabric_ms": median(imports),
            "cli_help_ms": 1e3 * median(helps),
            "up_s": median(ups),
            "ray_init_s": median(inits),
            "up_minus_ray_init_s": median([up - init for up, init in zip(ups, inits, strict=True)]),
            "twin": True,
        },
        {"import_fabric_ms": "<= 60", "cli_help_ms": "<= 300", "up_minus_ray_init_s": "<= 8"},
        as_json=args.json,
    )


def run(command: list[str]) -> str:
    """The last line of a command's output, run with a state directory of its own."""
    with tempfile.TemporaryDirectory() as state:
        env = {**os.environ, "FABRIC_STATE_DIR": state, "FABRIC_DASHBOARD__ENABLED": "false"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1]


def timed(command: list[str]) -> float:
    started_s = time.perf_counter()
    run(command)
    return time.perf_counter() - started_s


if __name__ == "__main__":
    main()
