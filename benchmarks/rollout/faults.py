"""Six planted faults, each rolled out 20 times at 200 requests a second: is it found, at whose cost, and is a request lost?

The product's directory, ingress, HAProxy and replicas, each in its process; only Ray Serve is replaced by plain processes (`live_world.py`).
`--virtual`: the same faults as simulated traffic through the same state machine, in a minute. `exposure_over_sprt`: requests that the
bad version answered, over the bound of a sequential probability ratio test that knows both distributions (`sprt.py`); the mean over runs of
each fault, and the worst fault is the figure. `crash_on_start` answers none.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from faulty_model import FAULTS
