"""Decides whether a model's calls are so quick that handing them to another thread costs more than running them at once.

The hop to a thread and back takes 50 to 100 µs; a call of less than `QUICK_S` may hold up the server's thread for as long. Times are
the wall's: a call that sleeps holds up the thread as well. So a busy machine's pauses count against the model too, and a single one
must not decide.
"""

from __future__ import annotations

QUICK_S = 0.0003
"""A call is quick below this."""
_STALL_S = 0.005
"""A call this slow counts as several slow ones."""
_STALL_WEIGHT = 4
_LONG_STALL_S = 0.05
"""One call as slow as this ends running at once for a while: longer than a busy scheduler takes a thread off its core."""
_MEMORY = 1 / 64
_ENTER_FRAC, _LEAVE_FRAC = 0.05, 0.25
_FIRST_BAN_S, _MOST_BAN_S = 1.0, 300.0
_FORGIVEN_S = 60.0


class InlineChoice:
    """`is_inline` follows the last calls: on when fewer than 1 in 20 are slow, off when more than 1 in 4 are or one stalls for long."""

    __slots__ = ("_ban_s", "_banned_until_s", "_entered_s", "_is_allowed", "_slow_frac", "is_inline")

    def __init__(self, is_allowed: bool) -> None:
        self._is_allowed = is_allowed
        self.is_inline = False
        self._slow_frac = 1.0
        self._ban_s = _FIRST_BAN_S
        self._banned_until_s = self._entered_s = 0.0

    def note(self, run_s: float, now_s: float) -> None:
        """One call took `run_s`, wherever it ran."""
        if run_s <= QUICK_S:
            self._slow_frac -= self._slow_frac * _MEMORY
            if not self.is_inline and self._slow_frac < _ENTER_FRAC and now_s >= self._banned_until_s and self._is_allowed:
                self.is_inline, self._entered_s = True, now_s
            return
        weight = _MEMORY * (_STALL_WEIGHT if run_s > _STALL_S else 1)
        self._slow_frac += (1.0 - self._slow_frac) * weight
        if self.is_inline and (run_s > _LONG_STALL_S or self._slow_frac > _LEAVE_FRAC):
            self._leave(now_s)

    def forbid(self) -> None:
        """The model cannot run on another thread than the one that built it."""
        self._is_allowed = self.is_inline = False

    def _leave(self, now_s: float) -> None:
        # Each time for longer, so that a model that turns slow now and then does not stall the server again and again.
        if now_s - self._entered_s > _FORGIVEN_S:
            self._ban_s = _FIRST_BAN_S
        self.is_inline = False
        self._banned_until_s = now_s + self._ban_s
        self._ban_s = min(_MOST_BAN_S, 2 * self._ban_s)
