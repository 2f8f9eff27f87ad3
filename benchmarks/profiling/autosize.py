"""What sizing by measurement reserves and how often it runs out: 200 calls of unknown need on nodes of 2 and 8 GB, scaled 1:16.

Every call is a process that really allocates what it needs; a watcher ends it when it holds more than it asked for. What calls need is
drawn anew for each seed: a power of the input's size (its factor and exponent are drawn too) times log-normal noise, above what the bare
process holds. Requests come from `profiler.sizing`, which is told the input's size and nothing else, and learns from the calls that have
ended by then; nodes are filled by what was asked for. The first five runs that end are free; every call that runs out after them counts
in `ooms_after_five`. `reserved_over_used` is over all calls, probes and failed tries included: bytes asked for over bytes at their peak
(of a failed try nothing is counted as used). The reference is told the mean need: it asks for 1.35 times that, and retries as it is.
`oracle` knows the distribution and asks for the best constant quantile: with log-normal noise nobody does better on both figures.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fabric.process_memory import held_bytes, of_status
from fabric.show import table
from profiler import sizing
from profiler.sizing import Needs, Sizing

MB = 10**6
SCALE = 16
NODES_BYTES = (2 * 2**30 // SCALE, 8 * 2**30 // SCALE)
NUM_CALLS = 200
FREE_RUNS = 5
MAX_TRIES = 8
FIXED_TRIES = 3
HOLD_S = 0.03
LOOK_S = 0.004
NOISES = (0.05, 0.1, 0.15, 0.2, 0.3)
CHILD = """
import sys, time
held = bytearray(int(sys.argv[1]))
held[::4096] = b"1" * len(held[::4096])
time.sleep(float(sys.argv[2]))
print(open("/proc/self/status").read())
"""


class Call(NamedTuple):
    input_bytes: int
    own_bytes: int
    """What it allocates; its process holds some more."""


class Try(NamedTuple):
    asked_bytes: int
    used_bytes: int
    is_oom: bool
    num_seen: int
    """Runs that had ended when it was sized."""


@dataclass
class Figures:
    tries: list[Try] = field(default_factory=list)
    num_unfinished: int = 0

    @property
    def ooms_after_five(self) -> int:
        return sum(one.is_oom and one.num_seen >= FREE_RUNS for one in self.tries)

    @property
    def reserved_over_used(self) -> float:
        return sum(one.asked_bytes for one in self.tries) / sum(one.used_bytes for one in self.tries if not one.is_oom)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the calls, separated by commas")
    parser.add_argument("--noise", type=float, default=0.1, help="standard deviation of the logarithm of a need, given the input's size")
    parser.add_argument("--curve", action="store_true", help="other noises and other prices of an out-of-memory as well, without processes")
    args = parser.parse_args()
    seeds = [int(word) for word in args.seeds.split(",")]
    base_bytes = run(Call(0, 0), NODES_BYTES[1]).used_bytes
    rows = [measure(draw(seed, args.noise, base_bytes), args.noise, base_bytes, run) for seed in seeds]
    figures: dict[str, Any] = {
        "ooms_after_five": statistics.fmean(row["ooms_after_five"] for row in rows),
        "ooms_after_five_worst": max(row["ooms_after_five"] for row in rows),
        "reserved_over_used": statistics.fmean(row["reserved_over_used"] for row in rows),
        "noise": args.noise,
        "oracle": oracle(args.noise),
        "seeds": dict(zip(args.seeds.split(","), rows, strict=True)),
    }
    if args.curve:
        figures["curve"] = curve(seeds, base_bytes)
    if args.json:
        print(json.dumps(figures))
        return
    keys = list(rows[0])
    print(table(["seed", *keys], [[str(s), *(f"{row[key]:.3g}" for key in keys)] for s, row in zip(seeds, rows, strict=True)]))
    print({name: figures[name] for name in ("ooms_after_five", "ooms_after_five_worst", "reserved_over_used", "oracle")})
    for line in figures.get("curve", ()):
        print(line)
    print("goals: ooms_after_five <= 2, reserved_over_used <= 1.35")


def draw(seed: int, noise: float, base_bytes: int) -> list[Call]:
    """Input sizes are log-normal about 8 MB; a call of 8 MB needs 20 to 60 MB, growing with size^0.6 to size^1.1."""
    rng = random.Random(seed)
    middle, exponent = MB * rng.uniform(20.0, 60.0), rng.uniform(0.6, 1.1)
    calls = []
    for _ in range(NUM_CALLS):
        size = 8 * MB * math.exp(min(rng.gauss(0.0, 1.0), 2.0))
        need = middle * (size / (8 * MB)) ** exponent * math.exp(rng.gauss(0.0, noise))
        calls.append(Call(round(size), round(min(need, 0.9 * NODES_BYTES[1] - base_bytes))))
    return calls


def measure(calls: Sequence[Call], noise: float, base_bytes: int, runner: Callable[[Call, int], Try]) -> dict[str, float]:
    ours = auto(calls, runner)
    mean_bytes = statistics.fmean(call.own_bytes + base_bytes for call in calls)
    peer = fixed(calls, round(1.35 * mean_bytes), runner)
    most = max(call.own_bytes + base_bytes for call in calls)
    return {
        "ooms_after_five": ours.ooms_after_five,
        "reserved_over_used": ours.reserved_over_used,
        "ooms": sum(one.is_oom for one in ours.tries),
        "unfinished": ours.num_unfinished,
        "fixed_ooms_after_five": peer.ooms_after_five,
        "fixed_reserved_over_used": peer.reserved_over_used,
        "fixed_unfinished": peer.num_unfinished,
        "fixed_at_most_reserved_over_used": most / mean_bytes,
    }


class Nodes:
    """Room by what was asked for; the fullest node that can take a call takes it."""

    def __init__(self) -> None:
        self._free = list(NODES_BYTES)
        self._freed = threading.Condition()

    def take(self, asked_bytes: int) -> int:
        with self._freed:
            while True:
                fitting = [index for index, free in enumerate(self._free) if free >= asked_bytes]
                if fitting:
                    chosen = min(fitting, key=lambda index: self._free[index])
                    self._free[chosen] -= asked_bytes
                    return chosen
                self._freed.wait()

    def give(self, node: int, asked_bytes: int) -> None:
        with self._freed:
            self._free[node] += asked_bytes
            self._freed.notify_all()


def auto(calls: Sequence[Call], runner: Callable[[Call, int], Try]) -> Figures:
    """Calls start in their order as soon as a node has room; each is sized by what is known when it starts."""
    needs, figures, nodes, lock = Needs(), Figures(), Nodes(), threading.Lock()

    def one(call: Call, asked: int, node: int, num_seen: int) -> None:
        for _ in range(MAX_TRIES):
            ended = runner(call, asked)._replace(num_seen=num_seen)
            nodes.give(node, asked)
            with lock:
                figures.tries.append(ended)
                if not ended.is_oom:
                    needs.add(call.input_bytes, ended.used_bytes)
                    return
                needs.add_oom(call.input_bytes, asked, ended.used_bytes)
                asked, num_seen = ask(call), len(needs.runs)
            if asked > NODES_BYTES[1]:
                break
            node = nodes.take(asked)
        figures.num_unfinished += 1

    def ask(call: Call) -> int:
        return Sizing(needs, probe_bytes=NODES_BYTES[0] // 2, most_bytes=NODES_BYTES[1]).request(call.input_bytes).memory_bytes

    threads = []
    for call in calls:
        with lock:
            asked = ask(call)
        while True:  # what it asks for may change while it waits for room
            node = nodes.take(asked)
            with lock:
                now, num_seen = ask(call), len(needs.runs)
            if now == asked:
                break
            nodes.give(node, asked)
            asked = now
        threads.append(threading.Thread(target=one, args=(call, asked, node, num_seen)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return figures


def fixed(calls: Sequence[Call], asked: int, runner: Callable[[Call, int], Try]) -> Figures:
    """The same request for all, and again for what ran out."""
    figures, num_seen = Figures(), 0
    for call in calls:
        for _ in range(FIXED_TRIES):
            figures.tries.append(runner(call, asked)._replace(num_seen=num_seen))
            if not figures.tries[-1].is_oom:
                break
        num_seen += not figures.tries[-1].is_oom
        figures.num_unfinished += figures.tries[-1].is_oom
    return figures


def run(call: Call, asked: int) -> Try:
    """One real process under its cap. What went over it between two looks has run out as well."""
    command = [sys.executable, "-I", "-S", "-c", CHILD, str(call.own_bytes), str(HOLD_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        used = 0
        while process.poll() is None:
            used = max(used, held_bytes([process.pid]))
            if used > asked:
                process.kill()
                return Try(asked, used, True, 0)
            time.sleep(LOOK_S)
        assert process.stdout is not None
        used = max(used, of_status(process.stdout.read()).own_peak_bytes)
    return Try(asked, used, used > asked, 0)


def curve(seeds: Sequence[int], base_bytes: int) -> list[dict[str, float]]:
    """Margin against out-of-memories: other noises, and other prices of an out-of-memory. The same calls, their processes left out."""

    def pretend(call: Call, asked: int) -> Try:
        used = call.own_bytes + base_bytes
        return Try(asked, min(used, asked + MB), used > asked, 0)

    lines, own_cost = [], sizing.OOM_COST
    for noise in NOISES:
        for cost in (own_cost / 4, own_cost, own_cost * 4):
            sizing.OOM_COST = cost
            found = [auto(draw(seed, noise, base_bytes), pretend) for seed in seeds]
            ooms = statistics.fmean(one.ooms_after_five for one in found)
            ratio = statistics.fmean(one.reserved_over_used for one in found)
            lines.append({"noise": noise, "oom_cost": cost, "ooms_after_five": ooms, "reserved_over_used": ratio, **oracle(noise)})
    sizing.OOM_COST = own_cost
    return lines


def oracle(noise: float) -> dict[str, float]:
    """Who knows the distribution: the least reservation over use with at most 2 of 195 calls out of memory, and the least count at 1.35
    times the use. Of the part above the bare process."""
    normal = statistics.NormalDist()
    z = normal.inv_cdf(1.0 - 2.0 / (NUM_CALLS - FREE_RUNS))
    most = (math.log(1.35) + noise**2 / 2) / noise
    return {
        "oracle_reserved_over_used_at_2_ooms": math.exp(z * noise - noise**2 / 2),
        "oracle_ooms_at_1_35": (NUM_CALLS - FREE_RUNS) * (1.0 - normal.cdf(most)),
    }


if __name__ == "__main__":
    main()
