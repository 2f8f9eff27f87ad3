"""History, kept: append-only logs of facts with the documents, idempotency keys and snapshots beside them, in one SQL database.

SQLite (WAL, synchronous=FULL) by default, anything SQLAlchemy reaches by URL. Nothing else reads these tables. What a call
wrote is on disk when it returns, whole or not at all. Replay gives facts back in the order in which they were written; it
decides nothing.
"""

from fabric.journal.batch import Batch, Written
from fabric.journal.committer import Committer
from fabric.journal.log import Entry, Journal

__all__ = ["Batch", "Committer", "Entry", "Journal", "Written"]
