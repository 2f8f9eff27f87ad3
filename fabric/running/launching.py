"""From a grant to ranks: what each rank asks of Ray and is told. Pure.

Invariant: the same spec, grant and attempt always give the same orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fabric.job import Grant, JobSpec, LaunchSpec
from fabric.running.order import Order
from fabric.types import Flavor, asleep_type


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for every attempt of a fabric: its Ray address, its store, a scratch directory of every node."""

    ray_address: str
    store_url: str
    scratch: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as it was decided."""

    epoch: int
    spec: JobSpec
    how: LaunchSpec
    attempt: int
    grant: Grant

    @property
    def num_bundles(self) -> int:
        return self.grant.option.num_bundles

    @property
    def is_spread(self) -> bool:
        return self.spec.shapes[self.grant.option.shape].spread and self.num_bundles > 1

    @property
    def wakes(self) -> tuple[str, ...]:
        """The types of the nodes that it was granted and that are asleep."""
        return tuple(sorted({kind for node in self.grant.nodes if (kind := asleep_type(node)) is not None}))

    @property
    def needs_accelerator(self) -> bool:
        return self.spec.shapes[self.grant.option.shape].accelerators > 0

    def bundle(self, flavor: Flavor) -> dict[str, float]:
        """What one bundle asks of a node, by Ray's resource names; never nothing, which Ray would refuse."""
        demand = self.spec.shapes[self.grant.option.shape].demand(flavor)
        if "memory" in demand:
            demand["memory"] *= self.grant.memory_factor
        return demand or {"CPU": 0.001}

    @property
    def memory_bytes(self) -> int:
        """What one rank may use; 0: no limit of its own."""
        return int(self.spec.shapes[self.grant.option.shape].memory_bytes * self.grant.memory_factor)


def orders(attempt: Attempt, flavor: Flavor, nodes: Sequence[str], around: Surroundings) -> list[Order]:
    """One for each rank; `nodes` is where their bundles are. A `ray-program` has one, whose driver finds the rest by itself."""
    spec, grant = attempt.spec, attempt.grant
    declared = {name: amount * attempt.num_bundles for name, amount in attempt.bundle(flavor).items()}
    env: dict[str, str] = {"RAY_ADDRESS": around.ray_address, "FABRIC_ADDRESS": around.ray_address, "FABRIC_FLAVOR": grant.option.flavor}
    if not attempt.needs_accelerator and "CUDA_VISIBLE_DEVICES" not in attempt.how.env:
        env["CUDA_VISIBLE_DEVICES"] = ""  # it asked for none: what is on the node is another's
    on_node: Counter[str] = Counter()
    made = []
    for rank, node in enumerate(nodes):
        made.append(
            Order(
                epoch=attempt.epoch,
                job_id=spec.job_id,
                attempt=attempt.attempt,
                name=spec.name,
                form=spec.form,
                how=attempt.how,
                rank=rank,
                local_rank=on_node[node],
                world_size=len(nodes),
                memory_bytes=attempt.memory_bytes,
                timeout_s=spec.timeout_s,
                env=env,
                declared=declared,
                visible=visible(attempt, flavor),
                scratch=around.scratch,
                store_url=around.store_url,
            )
        )
        on_node[node] += 1
    return made


def visible(attempt: Attempt, flavor: Flavor) -> Mapping[str, str]:
    """What Ray's dashboard shows beside a job's name; what is empty is left out."""
    spec = attempt.spec
    told = {"job_id": spec.job_id, "name": spec.name, "user": spec.user, "queue": spec.queue, "priority": spec.priority}
    told |= {"attempt": str(attempt.attempt), "tier": flavor.tier, "flavor": flavor.name}
    return {key: value for key, value in told.items() if value}


def title_of(attempt: Attempt, flavor: Flavor, rank: int) -> str:
    """What Ray's dashboard and logs call the host of a rank."""
    spec = attempt.spec
    part = f", rank {rank} of {attempt.num_bundles}" if attempt.num_bundles > 1 else ""
    return f"job {spec.name} of {spec.user} (queue {spec.queue}, {flavor.name}, attempt {attempt.attempt}{part})"
