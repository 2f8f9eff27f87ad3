"""Six planted faults, each rolled out many times: whether each is found, and how many requests the bad version served until it was.

Live: the product's directory, ingress, HAProxy and replicas, each in its process, and only Ray Serve replaced by plain ones
(`live_world.py`); 20 runs take an hour and a half, and mean something on a machine without other work. `--virtual`: simulated traffic on
virtual time, through the product's own state machine (`faults_world.py`), in a minute. `sprt.py` says what a test could have done at best.

Options: `--json`, `--runs 20`, `--per-s 200` requests a second, `--fault NAME`; with `--virtual` also `--seed 40000` of the first,
`--median-ms 20` and `--look-s 0.5`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import live_faults
from faults_world import FAULTS, measured
from measure import report
from world import Base

LIVE_GOALS = {"detected_frac": "1", "exposure_over_sprt": "<= 2", "lost_requests": "<= 0"}
_FIRST_SEED = 40_000
"""Whatever constant was set by a look at results was set on seeds below this one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--virtual", action="store_true")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=_FIRST_SEED)
    parser.add_argument("--per-s", type=float, default=200.0)
    parser.add_argument("--median-ms", type=float, default=20.0)
    parser.add_argument("--look-s", type=float, default=0.5)
    parser.add_argument("--fault", choices=[fault.name for fault in FAULTS])
    given = parser.parse_args()
    if not given.virtual:
        names = [fault.name for fault in FAULTS if given.fault in (None, fault.name)]
        report(live_faults.measured(given.runs, given.per_s, names), LIVE_GOALS, as_json=given.json)
        return
    base = Base(per_s=given.per_s, median_ms=given.median_ms, look_s=given.look_s)
    figures: dict[str, Any] = {}
    goals: dict[str, str] = {}
    for fault in FAULTS:
        if given.fault in (None, fault.name):
            found = measured(base, fault, range(given.seed, given.seed + given.runs))
            figures.update({f"{fault.name}.{key}": value for key, value in found.items()})
            goals.update({f"{fault.name}.detected_frac": "1", f"{fault.name}.exposure_over_sprt": "<= 2"})
    report(figures, goals, as_json=given.json)


if __name__ == "__main__":
    main()
