"""The pages of who used what, and of what was asked for against what was used."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.models_port import ModelsPort
from fabric.api.pages import page
from fabric.api.schema import EfficiencyQuery, UsageExportQuery, UsageQuery, read_query
from fabric.api.tokens import Principal
from fabric.efficiency_form import EFFICIENCY_ROW_KEYS
from fabric.job_form import plain
from fabric.usage_file import MEDIA, file_bytes
from fabric.usage_form import with_shares

_FILES = {"content": {media.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA.values()}}


def account_routes(exchange: Exchange, models: ModelsPort) -> APIRouter:
    """Usage and efficiency, over one exchange."""
    routes = APIRouter(prefix="/v1")
    _efficiency(routes, exchange)

    @routes.get("/usage", **page(pages.answers(by="user, queue or model", rows="a row for each", now_s="when"), query=UsageQuery))
    async def usage(request: Request) -> Response:
        """What users or queues hold and have used; what served models have cost and answered."""
        who = exchange.who(request)
        query = read_query(UsageQuery, request.query_params)
        return await exchange.run(lambda: Json(plain(_usage(exchange, models, who, query))))

    @routes.get("/usage/export", **page(_FILES, query=UsageExportQuery))
    async def export(request: Request) -> Response:
        """The same as a file, a column for each key: CSV or Parquet."""
        who = exchange.who(request)
        query = read_query(UsageExportQuery, request.query_params)
        body = await exchange.run(lambda: file_bytes(plain(_usage(exchange, models, who, query)), query.format))
        named = f'attachment; filename="usage-by-{query.by}.{query.format}"'
        headers = {"content-disposition": named, "x-content-type-options": "nosniff", "cache-control": "no-store"}
        return Response(body, media_type=MEDIA[query.format], headers=headers)

    return routes


def _usage(exchange: Exchange, models: ModelsPort, who: Principal, query: UsageQuery) -> dict[str, Any]:
    """The form of `fabric.usage_form`, with the rows that `who` may see. Raises: RejectedError (`forbidden`)."""
    if query.by == "queue":
        who.must("read")
    if query.by == "model":
        rows = [row for row in with_shares(models.usage()) if _may_see_row(who, "user", str(row["user"]))]
    else:
        rows = [dict(row) for row in exchange.plane.usage(query.by) if _may_see_row(who, query.by, str(row["name"]))]
    return {"by": query.by, "rows": rows, "now_s": exchange.now_s()}


def _efficiency(routes: APIRouter, exchange: Exchange) -> None:
    plane, figures = exchange.plane, dict.fromkeys(sorted(EFFICIENCY_ROW_KEYS | {"timeout_s"}), "see fabric.efficiency_form")

    @routes.get("/jobs/{job}/efficiency", **page(pages.answers(job="the job", **figures)))
    async def job_efficiency(request: Request, job: str) -> Response:
        """What a job asked for against what it used, and the dollars between."""
        who = exchange.who(request)
        return await exchange.run(lambda: Json(plain(plane.job_efficiency(exchange.seen(who, job).id))))

    @routes.get(
        "/efficiency",
        **page(
            pages.answers(by="user, queue or task", rows="a row for each", problem="why tasks are missing", now_s="when"),
            query=EfficiencyQuery,
        ),
    )
    async def efficiency(request: Request) -> Response:
        """What users, queues or tasks asked for against what they used, and the dollars between."""
        who = exchange.who(request)
        query = read_query(EfficiencyQuery, request.query_params)
        if query.by == "queue":
            who.must("read")
        # Whoever may not see the rows of all sees what is in them of their own.
        own = None if query.by == "queue" or ("read" in who.scopes and not who.queues) else who.user

        def work() -> Response:
            rows, problem = plane.efficiency(query.by, own)
            seen = [row for row in rows if query.by == "task" or _may_see_row(who, query.by, str(row["name"]))]
            return Json(plain({"by": query.by, "rows": seen, "problem": problem, "now_s": exchange.now_s()}))

        return await exchange.run(work)


def _may_see_row(who: Principal, by: str, name: str) -> bool:
    if by == "queue":
        return who.reaches(name)
    return name == who.user or ("read" in who.scopes and not who.queues)
