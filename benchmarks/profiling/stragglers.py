"""How often a healthy node is named slow, and how soon a slow one: simulated fabrics of one flavor, looked at every 5 s for 15 minutes.

Each fabric draws its number of nodes, its tasks, their noise, how busy it is, and what makes honest nodes differ: a host a little slower
than others, tasks that like one node less, one odd task that is three times slower on one node, calls that hang now and then, cold workers
at first, a time in which everything is slower, a node that joins late. `slow_*` are the same fabrics with one node that is that many times
slower from the fifth minute on. The peers
name a node at the first look at which the last 16 runs of each task took 1.5 times as long as those of the others: `means` by the mean over
all of them, `medians` by the median over tasks of the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median

from fabric.show import table
from fabric.types import Node, Run
from profiler.stragglers import SLOWER_THAN, Stragglers

FACTORS = (1.5, 2.0, 3.0)
LAST_S, SLOW_FROM_S, LOOK_S = 900.0, 300.0, 5.0
GOALS = {"false_named_frac": "<= 0.01"}


@dataclass(frozen=True)
class Fabric:
    """What one seed draws. Factors are logarithms."""

    seed: int
    num_nodes: int
    num_tasks: int
    runs_per_node_s: float
    noise_sd: float
    factor: float

    @property
    def slow_node(self) -> str:
        return f"n{random.Random(f'slow {self.seed}').randrange(self.num_nodes)}"

    def runs(self) -> Iterator[tuple[float, Run]]:
        luck = random.Random(self.seed)
        base = [math.log(luck.uniform(0.005, 2.0)) for _ in range(self.num_tasks)]
        host = [luck.gauss(0.0, 0.05) for _ in range(self.num_nodes)]
        likes = [[luck.gauss(0.0, 0.1) for _ in base] for _ in host]
        likes[luck.randrange(self.num_nodes)][luck.randrange(self.num_tasks)] += math.log(3.0)
        joins_s = [0.0] * (self.num_nodes - 1) + [luck.choice((0.0, luck.uniform(0.0, 250.0)))]
        crowded = sorted(luck.uniform(0.0, LAST_S) for _ in range(2))
        cold, slow_node = [luck.randint(1, 8) for _ in host], self.slow_node
        now_s = 0.0
        while (now_s := now_s + luck.expovariate(self.runs_per_node_s * self.num_nodes)) < LAST_S:
            node, task = luck.randrange(self.num_nodes), luck.randrange(self.num_tasks)
            if now_s < joins_s[node]:
                continue
            log_s = base[task] + host[node] + likes[node][task] + luck.gauss(0.0, self.noise_sd)
            log_s += math.log(10.0) * (luck.random() < 0.02) + 0.5 * (crowded[0] < now_s < crowded[1])
            if cold[node] > 0:
                cold[node] -= 1
                log_s += math.log(5.0)
            if f"n{node}" == slow_node and now_s > SLOW_FROM_S:
                log_s += math.log(self.factor)
            yield now_s, Run("", f"task{task}@1", 0, "cpu", "cpu", f"n{node}", math.exp(log_s), 0.0, 0)


def fabric_of(seed: int, factor: float) -> Fabric:
    luck = random.Random(f"fabric {seed}")
    noise_sd = luck.choice((0.1, 0.3, 0.6))
    return Fabric(seed, luck.choice((2, 3, 4, 8)), luck.choice((2, 3, 6)), luck.choice((0.5, 2.0)), noise_sd, factor)


class Peers:
    """Whom each of them has named at any look."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, deque[float]]] = {}
        self.means: set[str] = set()
        self.medians: set[str] = set()

    def look(self) -> None:
        whole = {task: {node: runs for node, runs in by_node.items() if len(runs) == runs.maxlen} for task, by_node in self.runs.items()}
        for node in {node for by_node in whole.values() for node in by_node}:
            here = [by_node for by_node in whole.values() if node in by_node and len(by_node) > 1]
            compared = [(by_node[node], [w for peer, runs in by_node.items() if peer != node for w in runs]) for by_node in here]
            if len(compared) < 2:
                continue
            if fmean(w for own, _ in compared for w in own) > SLOWER_THAN * fmean(w for _, others in compared for w in others):
                self.means.add(node)
            if median(median(own) / median(others) for own, others in compared) > SLOWER_THAN:
                self.medians.add(node)


def watch(fabric: Fabric) -> tuple[dict[str, float], Peers]:
    """When each node was named first, and whom the peers named."""
    found, by_peers, stragglers = {}, Peers(), Stragglers()
    nodes = {f"n{i}": Node(f"n{i}", "", "cold", "cpu", {}) for i in range(fabric.num_nodes)}
    stragglers.look(nodes, 0.0)
    look_s = LOOK_S
    for now_s, run in fabric.runs():
        while now_s >= look_s:
            for one in stragglers.look(nodes, look_s):
                found.setdefault(one.node_id, look_s)
            by_peers.look()
            look_s += LOOK_S
        stragglers.observe(run, now_s)
        by_peers.runs.setdefault(run.task, {}).setdefault(run.node_id, deque(maxlen=16)).append(run.wall_s)
    return found, by_peers


def measure(seeds: range) -> dict[str, float | int | None]:
    well = [watch(fabric_of(seed, 1.0)) for seed in seeds]
    figures: dict[str, float | int | None] = {
        "fabrics": len(seeds),
        "false_named_frac": sum(bool(found) for found, _ in well) / len(seeds),
        "means_false_named_frac": sum(bool(peers.means) for _, peers in well) / len(seeds),
        "medians_false_named_frac": sum(bool(peers.medians) for _, peers in well) / len(seeds),
    }
    for factor in FACTORS:
        delays, num_wrong, num_by_medians = [], 0, 0
        for seed in seeds:
            fabric = fabric_of(seed, factor)
            (found, peers), slow = watch(fabric), fabric.slow_node
            num_wrong += any(node_id != slow for node_id in found)
            num_by_medians += slow in peers.medians
            if slow in found:
                delays.append(found[slow] - SLOW_FROM_S)
        name = f"slow_{factor:g}"
        figures[f"{name}_found_frac"] = len(delays) / len(seeds)
        figures[f"{name}_wrong_frac"] = num_wrong / len(seeds)
        figures[f"{name}_delay_s_p50"] = median(delays) if delays else None
        figures[f"{name}_medians_found_frac"] = num_by_medians / len(seeds)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fabrics", type=int, default=200, help="how many are simulated")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(range(options.seed, options.seed + options.fabrics))
    if options.json:
        print(json.dumps(figures))
        return
    rows = [[key, "-" if value is None else f"{value:.4g}", GOALS.get(key, "")] for key, value in figures.items()]
    print(table(["figure", "value", "goal"], rows, right=(1,)))


if __name__ == "__main__":
    main()
