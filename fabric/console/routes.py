"""The console's own pages under `/v1/console`: reading only, for whoever has a token."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from fabric.api import pages
from fabric.api.exchange import bearer
from fabric.api.pages import page
from fabric.api.schema import read_query, read_states
from fabric.api.tokens import Principal
from fabric.console.answers import Answers
from fabric.console.events import Events
from fabric.console.follower import Follower
from fabric.console.job_window import Filter
from fabric.console.known_tokens import KnownTokens
from fabric.console.packed import packed
from fabric.console.queries import JobsQuery, NodesQuery, SeriesQuery, TasksQuery, TimelineQuery

_EVENTS = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
_OVERVIEW = pages.answers(
    name="of the fabric",
    version="of the fabric",
    now_s="when",
    seq="of the newest fact that is shown",
    panels="what the page has",
    who="{user, scopes, queues} of the token",
    api_problem="why what only the scheduler knows is old; null: it is not",
    jobs="jobs by state",
    usd_per_h="of all nodes with a price",
    idle_usd_per_h="how much of that nothing uses",
    tiers="a row for each tier, with its flavors",
)
_TIMELINE = pages.answers(
    from_s="of the window",
    to_s="of the window",
    now_s="when",
    total_rows="how many nodes match",
    rows="{node_id, host, flavor, tier, lanes} of each node",
    bars="[row, lane, from_s, to_s, num, job_id, name, user, state] of each lease, or of several that are too short to tell apart",
    marks="[row, at_s, kind, num, job_id, name] of preemptions, failures, moves and losses",
)
_TASK = pages.answers(
    task="its name",
    key="its name and the hash of its code",
    runs="measured, of any size",
    versions="{key, runs} of each",
    max_bytes="the largest argument of the size that all figures are about",
    ways="predicted and measured, a row for each flavor and variant",
    problem="why no call can run now; null: one can",
    lines="of its roofline",
    lines_problem="why there is none",
    now_s="when",
)


def console_routes(follower: Follower, answers: Answers, tokens: KnownTokens, events: Events) -> APIRouter:
    routes = APIRouter(prefix="/v1/console")

    def who_asks(request: Request) -> Principal:
        follower.watch()
        return tokens.principal(bearer(request))

    @routes.get("/overview", **page(_OVERVIEW))
    async def overview(request: Request) -> Response:
        """The fabric at a glance: its tiers and flavors, what is used, leased, idle and broken, dollars, jobs by state."""
        who = who_asks(request)
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.overview(who)))

    @routes.get("/nodes", **page(pages.answers(nodes="a window of them", total="how many match", now_s="when"), query=NodesQuery))
    async def nodes(request: Request) -> Response:
        """A window of the list of nodes."""
        who, query = who_asks(request), read_query(NodesQuery, request.query_params)
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.nodes(who, **query.model_dump())))

    @routes.get(
        "/series",
        **page(pages.answers(step_s="10", times_s="when", tiers="figures by tier", flavors="figures by flavor"), query=SeriesQuery),
    )
    async def series(request: Request) -> Response:
        """Utilisation and dollars of the last hour."""
        who, query = who_asks(request), read_query(SeriesQuery, request.query_params)
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.series(who, query.minutes)))

    @routes.get("/timeline", **page(_TIMELINE, query=TimelineQuery))
    async def timeline(request: Request) -> Response:
        """Who held what when, as many bars as can be told apart."""
        who, query = who_asks(request), read_query(TimelineQuery, request.query_params)
        window = query.window(follower.now_s())
        wanted = query.model_dump(exclude={"from_s", "to_s", "width"})
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.timeline(who, window, **wanted)))

    @routes.get(
        "/jobs",
        **page(
            pages.answers(
                jobs="a window of them", total="how many match", states="by state, of any", now_s="when", seq="of the newest fact"
            ),
            query=JobsQuery,
        ),
    )
    async def jobs(request: Request) -> Response:
        """A window of the list of jobs: what holds a lease, then what waits by its place, then what ended, newest first."""
        who, query = who_asks(request), read_query(JobsQuery, request.query_params)
        states = [state.value for state in read_states(query.state)]
        wanted = Filter(states, query.queue, query.user, query.text)
        rows = query.model_dump(include={"sort", "descending", "offset", "limit"})
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.jobs(who, wanted, **rows)))

    @routes.get("/tasks", **page(pages.answers(tasks="a window of them", total="how many match", now_s="when"), query=TasksQuery))
    async def tasks(request: Request) -> Response:
        """A window of the list of tasks, what ran most often first."""
        who, query = who_asks(request), read_query(TasksQuery, request.query_params)
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.tasks(who, **query.model_dump())))

    @routes.get("/tasks/{task:path}", **page(_TASK))
    async def task(request: Request, task: str) -> Response:
        """One task: the answer of `fabric profile TASK`, every way that a call could take now with what was measured, its roofline."""
        who = who_asks(request)
        return await anyio.to_thread.run_sync(lambda: packed(request, answers.task(who, task)))

    @routes.get("/events", **page(_EVENTS))
    async def stream(request: Request) -> Response:
        """Server-sent events: `hello`, then `jobs`, `nodes`, `overview` and `models` as they change."""
        token = bearer(request)
        told = events.open(partial(tokens.principal, token))
        return StreamingResponse(told, media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    return routes
