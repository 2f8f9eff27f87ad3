"""How much slower a node is than its like: log run times of the same tasks on nodes of the same flavor, compared. Pure.

Each task (in all its sizes and variants) says by how much the node differs from the median of its peers. The node's effect is what half of
its tasks, and two at least, say or exceed: no odd task and no lucky draw speaks for a node. Figures are natural logarithms; only
differences of the same task, size and variant are ever formed.

Source: Welch's t for each difference; medians across peers and tasks as in Tukey's median polish.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

LEAST_CELL_RUNS = 3
LEAST_TASK_RUNS = 4
LEAST_RUNS = 16
LEAST_TASKS = 2
NUM_SD = 3.0
"""Of the bound. A few runs have heavier tails than a normal law; that two tasks must agree, twice, makes up for it by far."""
INTERACTION_LOG_VAR = 0.15**2
"""How much a task may differ from node to node while both are healthy (own estimate: other hosts, other neighbours)."""
_PRIOR_RUNS, _PRIOR_LOG_VAR = 2.0, 0.2**2
_MEDIAN_LOSS = math.pi / 2.0
"""The variance of a median over that of a mean."""


class Sample(NamedTuple):
    """Log seconds of one (task, bucket, variant) on one node."""

    num: int
    mean: float
    var: float


class Reference(NamedTuple):
    """What the same takes on the node's like, how sure that is, and how much single runs scatter there."""

    mean: float
    var: float
    noise_var: float


class Comparison(NamedTuple):
    """One (task, bucket, variant) on the node in question and on its like. `task` is the name that people know."""

    task: str
    own: Sample
    like: Reference


@dataclass(frozen=True, slots=True)
class Effect:
    """`shift` is by how much the logarithm of run times is above that of peers, `bound` what it is at least."""

    shift: float
    bound: float
    num_runs: int
    num_tasks: int


def sample_of(log_s: Sequence[float]) -> Sample | None:
    """None where there are too few runs to say anything."""
    num = len(log_s)
    if num < LEAST_CELL_RUNS:
        return None
    mean = sum(log_s) / num
    squares = sum((value - mean) ** 2 for value in log_s)
    return Sample(num, mean, (squares + _PRIOR_RUNS * _PRIOR_LOG_VAR) / (num - 1 + _PRIOR_RUNS))


def reference_of(peers: Sequence[Sample]) -> Reference | None:
    """The median over peers, each with its own noise and its own healthy difference; None without any."""
    if not peers:
        return None
    num_runs = sum(peer.num for peer in peers)
    noise_var = sum(peer.num * peer.var for peer in peers) / num_runs
    mean_var = sum(noise_var / peer.num + INTERACTION_LOG_VAR for peer in peers) / len(peers)
    loss = _MEDIAN_LOSS if len(peers) > 2 else 1.0
    return Reference(median(peer.mean for peer in peers), mean_var / len(peers) * loss, noise_var)


def effect_of(comparisons: Iterable[Comparison]) -> Effect | None:
    """The node's effect; None while there is too little to compare."""
    by_task: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for task, own, like in comparisons:
        # Few runs may lie close together by chance, and a node of which some runs hang scatters more than its like.
        by_task[task].append((own.mean - like.mean, max(own.var, like.noise_var) / own.num + like.var, own.num))
    said = [_joined(shifts) for shifts in by_task.values()]
    enough = [each for each in said if each[2] >= LEAST_TASK_RUNS]
    if len(enough) < LEAST_TASKS or sum(num for _, _, num in enough) < LEAST_RUNS:
        return None
    shift = sorted(shift for shift, _, _ in enough)[(len(enough) - 1) // 2]
    # One task may be the odd one: the others' doubt is what averages out.
    sd = math.sqrt(sum(var for _, var, _ in enough) / len(enough) * (_MEDIAN_LOSS if len(enough) > 2 else 1.0) / (len(enough) - 1))
    return Effect(shift, shift - NUM_SD * sd, sum(num for _, _, num in enough), len(enough))


def _joined(shifts: Sequence[tuple[float, float, int]]) -> tuple[float, float, int]:
    """What one task says over its sizes and variants: the mean by precision. Its own difference does not average out."""
    weights = [1.0 / var for _, var, _ in shifts]
    total = sum(weights)
    shift = sum(weight * each[0] for weight, each in zip(weights, shifts, strict=True)) / total
    return shift, 1.0 / total + INTERACTION_LOG_VAR, sum(num for _, _, num in shifts)
