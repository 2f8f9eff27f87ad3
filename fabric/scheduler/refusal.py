"""Why a job cannot start now, and what may end that: collected over all the ways in which it was tried."""

from __future__ import annotations

from dataclasses import dataclass

ROOM = frozenset({"Resources", "Priority", "Planning", "BadConstraints"})
"""What free nodes may end; everything else waits for quota, a user's limit or a budget."""


@dataclass(slots=True)
class Refusal:
    """`why`, `detail`: the first reason, but a lack of room rather than one of quota. `is_impatient`: there are jobs that may have to
    leave for it, but it is not worth it yet: look again after a while."""

    why: str = ""
    detail: str = ""
    is_for_room: bool = False
    is_for_quota: bool = False
    is_impatient: bool = False

    def add(self, why: str, detail: str, *, is_for_quota: bool = False) -> Refusal:
        is_for_quota = is_for_quota or why not in ROOM
        if not self.why or (self.is_for_quota and not self.is_for_room and not is_for_quota):
            self.why, self.detail = why, detail
        self.is_for_room |= not is_for_quota
        self.is_for_quota |= is_for_quota
        return self

    def replace(self, why: str, detail: str) -> None:
        """What is shown; what may end it stays."""
        self.why, self.detail = why, detail
        self.is_for_room = True
