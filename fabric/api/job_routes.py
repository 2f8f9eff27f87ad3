"""The pages of jobs: submit, list, look, cancel, explain, logs, result, wait, story, plan, artefacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json, can_see, too_large
from fabric.api.intake import Intake
from fabric.api.pages import page
from fabric.api.port import LogPart, Submission
from fabric.api.schema import (
    MAX_EXPANDED,
    JobAnswer,
    Listing,
    ListQuery,
    LogQuery,
    PriorityRequest,
    Submitted,
    WaitQuery,
    read,
    read_jobs,
    read_query,
    read_states,
)
from fabric.api.tokens import Principal
from fabric.errors import RejectedError, UnknownNameError, UserError
from fabric.job import JobId
from fabric.job_form import job_json, listing_json, plain
from fabric.job_ids import is_job_id

NEXT_OFFSET, IS_FINAL, STATE = "x-fabric-next-offset", "x-fabric-final", "x-fabric-state"
POLL_S = (0.05, 0.5)


def job_routes(exchange: Exchange) -> APIRouter:
    """Every page of jobs, over one exchange."""
    routes = APIRouter(prefix="/v1")
    _submitting(routes, exchange)
    _reading(routes, exchange)
    _output(routes, exchange)
    _artefacts(routes, exchange)
    return routes


def _submitting(routes: APIRouter, exchange: Exchange) -> None:
    plane = exchange.plane

    @routes.post("/jobs", **page(Submitted, body=pages.jobs_body(), status=201))
    async def submit(request: Request) -> Response:
        """Submit a job, or a list of up to 1,000: all or none, on disk before this answers."""
        who = exchange.who(request)
        who.must("submit")
        body = await exchange.body(request)
        return await exchange.run(partial(_submitted, exchange, who, body))

    @routes.post(
        "/plan",
        **page(pages.answers(job="what is asked for", ways="a row for each flavor", chosen="the number of a row"), body=pages.jobs_body()),
    )
    async def plan(request: Request) -> Response:
        """What would become of a job, flavor by flavor; nothing is kept."""
        who = exchange.who(request)
        who.must("submit")
        body = await exchange.body(request)

        def work() -> Response:
            made = _intake(exchange, who).read(read_jobs(body))
            if len(made) != 1 or len(made[0]) != 1:
                raise UserError("a plan is for one job", code="bad_request", hint="leave array out, and send one")
            return Json(plain(plane.plan(made[0][0])))

        return await exchange.run(work)

    @routes.post("/jobs/{job}/cancel", **page(JobAnswer))
    async def cancel(request: Request, job: str) -> Response:
        """Cancel a job; of one that has ended it changes nothing."""
        who = exchange.who(request)
        return await exchange.run(lambda: Json(job_json(plane.cancel(_changed(exchange, who, job), who.user))))

    @routes.post("/jobs/{job}/priority", **page(JobAnswer, body=pages.json_body(PriorityRequest)))
    async def set_priority(request: Request, job: str) -> Response:
        """Set the priority class of a job that has not ended; what waits is ordered anew at once."""
        who = exchange.who(request)
        wanted: PriorityRequest = read(PriorityRequest, await exchange.body(request))
        return await exchange.run(lambda: Json(job_json(plane.set_priority(_changed(exchange, who, job), wanted.priority, who.user))))


def _changed(exchange: Exchange, who: Principal, job: str) -> JobId:
    """A job that `who` may change. Raises: as `Exchange.held`."""
    found = exchange.held(who, job)
    if found.user == who.user and "operate" not in who.scopes:
        who.must("submit")
    return found.id


def _intake(exchange: Exchange, who: Principal) -> Intake:
    return Intake(who, exchange.plane.catalogue, exchange.now_s(), partial(_found, exchange, who))


def _found(exchange: Exchange, who: Principal, word: str) -> Sequence[JobId]:
    """A job, or where the word is an array's id, all of its jobs. Raises: UnknownNameError (`unknown_job`)."""
    try:
        return (exchange.seen(who, word).id,)
    except UnknownNameError:
        members = [view.id for view in exchange.plane.jobs(array=word, limit=MAX_EXPANDED) if can_see(who, view)] if is_job_id(word) else []
        if not members:
            raise
        return members


def _submitted(exchange: Exchange, who: Principal, body: bytes) -> Response:
    made = _intake(exchange, who).read(read_jobs(body))
    submissions: list[Submission] = [each for jobs in made for each in jobs]
    ids = iter(exchange.plane.submit(submissions, who.user))
    answer: list[list[JobId]] = [[next(ids) for _ in jobs] for jobs in made]
    return Json({"ids": answer}, status_code=201)


def _reading(routes: APIRouter, exchange: Exchange) -> None:
    plane = exchange.plane

    def reading(path: str, what: str, answer: Any, read: Callable[[JobId], Any], exact: bool = False) -> None:
        async def look(request: Request, job: str) -> Response:
            who = exchange.who(request)
            find = exchange.held if exact else exchange.seen
            return await exchange.run(lambda: Json(plain(read(find(who, job).id))))

        look.__doc__, look.__name__ = what, path.rpartition("/")[2].strip("{}")
        routes.get(path, **page(answer))(look)

    @routes.get("/jobs", **page(Listing, query=ListQuery))
    async def jobs(request: Request) -> Response:
        """Jobs that the token may see: those that run, then those that wait by their place, then what ended."""
        who = exchange.who(request)
        query = read_query(ListQuery, request.query_params)
        return await exchange.run(partial(_listed, exchange, who, query))

    reading("/jobs/{job}", "One job.", JobAnswer, lambda job_id: job_json(plane.job(job_id)))
    reading(
        "/jobs/{job}/explain",
        "Why a job waits or where it runs, who is ahead, when it starts, what would start it sooner.",
        pages.answers(job="the job", ahead="jobs before it", ways="a row for each flavor", counterfactuals="what would start it sooner"),
        plane.explain,
    )
    reading(
        "/jobs/{job}/story",
        "The facts about a job, oldest first.",
        pages.answers(facts="facts"),
        lambda job_id: {"facts": plane.story(job_id)},
        True,
    )

    @routes.get("/jobs/{job}/wait", **page(JobAnswer, query=WaitQuery))
    async def wait(request: Request, job: str) -> Response:
        """The job, once it has ended or the time is over."""
        who = exchange.who(request)
        query = read_query(WaitQuery, request.query_params)
        found = await exchange.run(lambda: exchange.seen(who, job))
        if found.state.is_final or query.timeout_s <= 0:
            return Json(job_json(await exchange.run(lambda: plane.job(found.id))))
        return Json(job_json(await exchange.run_waiting(lambda: plane.wait(found.id, query.timeout_s))))


def _listed(exchange: Exchange, who: Principal, query: ListQuery) -> Response:
    user = who.user if query.mine else query.user
    if "read" not in who.scopes:
        if user not in (None, who.user):
            who.must("read")
        user = who.user
    states = read_states(query.state)
    views = exchange.plane.jobs(queue=query.queue, user=user, states=states, array=query.array, limit=query.limit)
    return Json(listing_json((view for view in views if can_see(who, view)), exchange.now_s()))


def _output(routes: APIRouter, exchange: Exchange) -> None:
    plane = exchange.plane

    @routes.get("/jobs/{job}/logs", **page(pages.BYTES, query=LogQuery))
    async def logs(request: Request, job: str) -> Response:
        """Output from a byte on. The headers X-Fabric-Next-Offset and X-Fabric-Final say where it goes on and whether it does."""
        who = exchange.who(request)
        query = read_query(LogQuery, request.query_params)
        found = await exchange.run(lambda: exchange.held(who, job))
        read = partial(plane.logs, found.id, query.rank, query.offset)
        part, until_s, pause_s = await exchange.run(read), time.monotonic() + query.wait_s, POLL_S[0]
        while not part.data and not part.is_final and time.monotonic() < until_s and not await request.is_disconnected():
            await anyio.sleep(min(pause_s, max(0.0, until_s - time.monotonic())))
            part, pause_s = await exchange.run(read), min(POLL_S[1], 1.5 * pause_s)
        return _log_answer(part)

    @routes.get("/jobs/{job}/result", **page(pages.BYTES))
    async def result(request: Request, job: str) -> Response:
        """The pickled (is_ok, value or exception) of a callable; 204 where the job left none. The header X-Fabric-State has its state."""
        who = exchange.who(request)

        def work() -> Response:
            found = exchange.held(who, job)
            if not found.state.is_final:
                hint = f"GET /v1/jobs/{found.id}/wait answers when it has"
                raise RejectedError(
                    f"{found.name} has not ended: it is {found.state}", code="not_finished", hint=hint, state=found.state.value
                )
            body, headers = plane.result(found.id), {STATE: found.state.value}
            if body is None:
                return Response(status_code=204, headers=headers)
            return Response(body, media_type="application/octet-stream", headers=headers)

        return await exchange.run(work)


def _log_answer(part: LogPart) -> Response:
    headers = {NEXT_OFFSET: str(part.next_offset), IS_FINAL: "true" if part.is_final else "false", "cache-control": "no-store"}
    return Response(part.data, media_type="application/octet-stream", headers=headers)


def _artefacts(routes: APIRouter, exchange: Exchange) -> None:
    plane = exchange.plane

    @routes.put("/artefacts", **page(pages.answers(digest="its sha256, 64 hexadecimal digits"), body=pages.BYTES["content"], status=201))
    async def put(request: Request) -> Response:
        """Keep a payload or an archive of a working directory, named by its sha256; again, it changes nothing."""
        exchange.who(request).must("submit")
        with await exchange.spooled(request) as file:
            digest = await exchange.run(lambda: plane.put(file))
        return Json({"digest": digest}, status_code=201)

    @routes.head("/artefacts/{digest}", **page())
    async def has(request: Request, digest: str) -> Response:
        """200 where it is kept, 404 where not."""
        exchange.who(request).must("submit")
        is_digest = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        is_there = is_digest and await exchange.run(lambda: plane.has(digest))
        return Response(status_code=200 if is_there else 404)


__all__ = ["IS_FINAL", "NEXT_OFFSET", "STATE", "job_routes", "too_large"]
