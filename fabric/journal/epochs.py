"""The number of a scheduler's life: each takes one higher than any before, see decision 19.

The scheduler's own documents lie in its stream; what brings a journal back on another machine has to lift it above lives that the
copy does not know.
"""

from __future__ import annotations

from fabric.journal.log import Journal

STREAM = "jobs"
EPOCHS = "epochs"
LIFT = 1_000_000
"""How many lives a scheduler may have had of which no copy tells: an epoch's millions say how often the fabric was brought back."""


def next_epoch(journal: Journal) -> int:
    """One more than any scheduler before; on disk when it returns."""
    epoch = int(journal.document(STREAM, EPOCHS) or 0) + 1
    journal.save(STREAM, {EPOCHS: epoch})
    return epoch


def lift_epoch(journal: Journal, known: int) -> int:
    """Above all lives that there may have been since the journal was copied; `known`: one that is known from elsewhere. The epoch that
    is now the last; on disk when it returns."""
    epoch = lifted(max(int(journal.document(STREAM, EPOCHS) or 0), known))
    journal.save(STREAM, {EPOCHS: epoch})
    return epoch


def lifted(epoch: int) -> int:
    return (epoch // LIFT + 1) * LIFT
