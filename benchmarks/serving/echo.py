"""What one caller waits: the echo of 16 floats in the protocol's JSON, one connection, one request at a time.

Ratios are medians over the rounds of ours / theirs in the same round. Peers that do not speak the protocol echo the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ours import Ours
from payload import echo_body, is_echo
from peers.server import Server
from roster import chosen, in_turns, options, running
from serial import http_ms

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, report

GOALS = {
    "p50_ratio.ray_serve_haproxy": "<= 1.15",
    "p50_ratio.mlserver": "<= 0.8",
    "p50_ratio.ray_serve": "<= 0.2",
    "p50_ratio.bentoml": "<= 1.15",
    "p50_ratio.litserve": "<= 1.15",
    "p50_ratio.triton": "<= 1.15",
}
_WARM_UP = 200
_REQUESTS = 400


def main() -> None:
    args = options(__doc__ or "", rounds=5)
    with running(Ours(), chosen(args.peers), args.venvs, echo_body()) as (servers, skipped):
        seen = in_turns(servers, skipped, measure, body=echo_body(), rounds=args.rounds)
    ours = seen.pop("ours")
    figures: dict[str, object] = {}
    for name, theirs in seen.items():
        figures[f"p50_ratio.{name}"] = median([mine[0] / other[0] for mine, other in zip(ours, theirs, strict=True)])
    for name, rounds in {"ours": ours, **seen}.items():
        figures[f"p50_ms.{name}"] = median([p50 for p50, _ in rounds])
        figures[f"p99_ms.{name}"] = median([p99 for _, p99 in rounds])
    report({**figures, **{f"skipped.{name}": why.splitlines()[0] for name, why in skipped.items()}}, GOALS, as_json=args.json)


def measure(server: Server) -> tuple[float, float]:
    """p50 and p99, in ms. Raises: `RuntimeError` if the answer is not the echo."""
    _, answer = http_ms(server.url, echo_body(), count=_WARM_UP)
    if not is_echo(answer):
        raise RuntimeError(f"{server.name} answered {answer[:300]!r}")
    took_ms, _ = http_ms(server.url, echo_body(), count=_REQUESTS)
    took_ms.sort()
    return median(took_ms), took_ms[int(0.99 * len(took_ms))]


if __name__ == "__main__":
    main()
