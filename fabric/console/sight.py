"""What a token may see of jobs: the rule of `fabric.api.exchange.can_see`, over all jobs at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fabric.api.tokens import Principal
from fabric.console.job_table import JobTable, Mask


class Sight(NamedTuple):
    """Tokens with the same sight see the same rows. `user` is empty where all users' jobs are seen in all queues."""

    user: str
    reads: bool
    queues: frozenset[str]

    @property
    def is_whole(self) -> bool:
        return self.reads and not self.queues

    def mask(self, table: JobTable) -> Mask | None:
        """[jobs], which of them are seen; None: all."""
        if self.is_whole:
            return None
        seen: Mask = table.columns.view("user") == table.users.known(self.user)
        if self.reads:
            numbers = [table.queues.known(queue) for queue in self.queues]
            seen |= np.isin(table.columns.view("queue"), [number for number in numbers if number >= 0])
        return seen

    def sees(self, user: str, queue: str) -> bool:
        return user == self.user or (self.reads and (not self.queues or queue in self.queues))


def sight_of(who: Principal) -> Sight:
    """Raises: RejectedError (`forbidden`): a token that only asks models sees nothing of the fabric."""
    if "submit" not in who.scopes:
        who.must("read")
    reads = "read" in who.scopes
    if reads and not who.queues:
        return Sight("", True, frozenset())
    return Sight(who.user, reads, who.queues if reads else frozenset())
