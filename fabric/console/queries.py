"""The queries of the console's pages, checked at the edge as the API checks its own."""

from __future__ import annotations

from pydantic import Field

from fabric.api.schema import ApiRequest
from fabric.console.timeline import Window
from fabric.errors import UserError

MOST_ROWS = 500
MOST_WIDTH = 4000


class RowsQuery(ApiRequest):
    """Which stretch of the rows that are left. `sort` is each page's own."""

    descending: bool = False
    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=100, ge=1, le=MOST_ROWS)


class NodesQuery(RowsQuery):
    """Which nodes, in which order; all that is given must hold."""

    tier: str = Field(default="", max_length=128)
    flavor: str = Field(default="", max_length=128)
    health: str = Field(default="", max_length=128, description="ready, cordoned, draining, lost")
    text: str = Field(default="", max_length=256, description="in host, id or flavor")
    sort: str = Field(default="", max_length=64, description="a key of a node; left out: by tier, flavor and host")


class SeriesQuery(ApiRequest):
    minutes: float = Field(default=60.0, gt=0, le=60)


class TimelineQuery(ApiRequest):
    """Which stretch of time and which rows. Without times: the last hour."""

    from_s: float | None = Field(default=None, description="wall-clock seconds")
    to_s: float | None = Field(default=None, description="wall-clock seconds; left out: now")
    width: int = Field(default=1200, ge=10, le=MOST_WIDTH, description="pixels: what is shorter than one is merged")
    tier: str = Field(default="", max_length=128)
    flavor: str = Field(default="", max_length=128)
    text: str = Field(default="", max_length=256, description="in a node, or in a job that it held")
    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=60, ge=1, le=MOST_ROWS)

    def window(self, now_s: float) -> Window:
        """Raises: UserError (`bad_window`)."""
        to_s = now_s if self.to_s is None else self.to_s
        from_s = to_s - 3600.0 if self.from_s is None else self.from_s
        if not to_s - from_s >= 0.001:
            raise UserError("from_s must come before to_s", code="bad_window", hint="both are wall-clock seconds")
        return Window(from_s, to_s, self.width)


class TasksQuery(RowsQuery):
    """Which tasks, in which order."""

    text: str = Field(default="", max_length=256, description="in name, domain, phase or flavor")
    sort: str = Field(default="", max_length=64, description="task, domain, phase, runs, run_s; left out: what ran most often first")


class JobsQuery(RowsQuery):
    """Which jobs, in which order; all that is given must hold."""

    state: str | None = Field(default=None, description="PENDING,RUNNING")
    queue: str = Field(default="", max_length=128)
    user: str = Field(default="", max_length=128)
    text: str = Field(default="", max_length=256, description="in name, user, queue, id or family")
    sort: str = Field(default="", max_length=64, description="left out: what holds a lease, what waits by its place, what ended")
