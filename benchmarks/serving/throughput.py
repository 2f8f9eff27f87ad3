"""How many requests a second one worker answers over 32 connections while p99 stays within 50 ms: the same echo as in `echo.py`.

Closed loop first. Where its p99 is over the limit, the highest steady rate that keeps it is searched by halves. Ratios are medians over
the rounds of ours / theirs in the same round.
"""

from __future__ import annotations

import sys
from pathlib import Path

from load import Load, run_load
from ours import Ours
from payload import echo_body, is_echo
from peers.server import Server
from roster import chosen, in_turns, options, running
from serial import http_ms

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, report

P99_MS = 50.0

GOALS = {f"rps_ratio.{name}": ">= 1" for name in ("ray_serve_haproxy", "ray_serve", "mlserver", "bentoml", "litserve")}
GOALS["rps_ratio.triton"] = ">= 0.8"
_SECONDS = 3.0
_NUM_HALVINGS = 4
_WARM_UP = 100


def main() -> None:
    args = options(__doc__ or "", rounds=3)
    with running(Ours(), chosen(args.peers), args.venvs, echo_body()) as (servers, skipped):
        seen = in_turns(servers, skipped, highest, body=echo_body(), rounds=args.rounds)
    figures: dict[str, object] = {}
    for name, theirs in seen.items():
        if name != "ours":
            figures[f"rps_ratio.{name}"] = median(
                [mine.rps / max(other.rps, 1e-9) for mine, other in zip(seen["ours"], theirs, strict=True)]
            )
    for name, rounds in seen.items():
        figures[f"rps.{name}"] = median([load.rps for load in rounds])
        figures[f"p99_ms.{name}"] = median([load.p99_ms for load in rounds])
    figures["errors"] = sum(load.errors for rounds in seen.values() for load in rounds)
    figures["generator_cpu_frac_max"] = max(load.cpu_frac for rounds in seen.values() for load in rounds)
    report({**figures, **{f"skipped.{name}": why.splitlines()[0] for name, why in skipped.items()}}, GOALS, as_json=args.json)


def highest(server: Server) -> Load:
    """The load of the highest rate within the limit; a rate of 0 if there is none. Raises: `RuntimeError` if the answer is not the echo."""
    body = echo_body()
    _, answer = http_ms(server.url, body, count=_WARM_UP)
    if not is_echo(answer):
        raise RuntimeError(f"{server.name} answered {answer[:300]!r}")
    closed = run_load(server.url, body, seconds=_SECONDS)
    if closed.p99_ms <= P99_MS:
        return closed
    best = Load(0.0, closed.p50_ms, closed.p99_ms, closed.errors, closed.cpu_frac)
    low, high = 0.0, closed.rps
    for _ in range(_NUM_HALVINGS):
        rate = (low + high) / 2
        paced = run_load(server.url, body, seconds=_SECONDS, rate=rate)
        if paced.p99_ms <= P99_MS:
            low, best = rate, paced
        else:
            high = rate
    return best


if __name__ == "__main__":
    main()
