"""The pages of what-ifs: what would have become of the last day's jobs under another policy."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.admin_routes import MAX_POLICY_BYTES
from fabric.api.exchange import Exchange, Json
from fabric.api.pages import page
from fabric.api.schema import WhatIfRequest, read
from fabric.api.tokens import Principal
from fabric.api.what_if_port import WhatIfPort
from fabric.durations import parse_duration
from fabric.errors import RejectedError, UserError
from fabric.job_form import plain
from fabric.what_if_form import WHAT_IF_KEYS

LONGEST_S = 366 * 86400.0
_FORM = pages.answers(**dict.fromkeys(WHAT_IF_KEYS, "see fabric.what_if_form"))


def what_if_routes(exchange: Exchange, what_ifs: WhatIfPort) -> APIRouter:
    """Over one exchange."""
    routes = APIRouter(prefix="/v1/policy/what-if")

    @routes.post("", **page(pages.answers(id="of the what-if"), body=pages.json_body(WhatIfRequest), status=202))
    async def begin(request: Request) -> Response:
        """Replay recorded jobs under the policy in force and under another one; an invalid document is refused at once."""
        who = _reader(exchange, request)
        wanted: WhatIfRequest = read(WhatIfRequest, await exchange.body(request, 2 * MAX_POLICY_BYTES))
        since_s = parse_duration(wanted.since)
        if not 0 < since_s <= LONGEST_S:
            raise UserError(f"since={wanted.since!r} is not within a year", code="bad_since", hint="24h, 7d")
        found = await exchange.run(lambda: what_ifs.begin(wanted.document, since_s, who.user))
        return Json({"id": found}, status_code=202)

    @routes.get("/{what_if_id}", **page(_FORM))
    async def show(request: Request, what_if_id: str) -> Response:
        """How far it is; the figures of both sides once it is done."""
        _reader(exchange, request)
        return await exchange.run(lambda: Json(plain(what_ifs.shown(what_if_id))))

    @routes.post("/{what_if_id}/cancel", **page(_FORM))
    async def cancel(request: Request, what_if_id: str) -> Response:
        """End it: its state is `failed` then, with the code `cancelled`. One that has ended stays as it is."""
        who = _reader(exchange, request)

        def ended() -> Json:
            if what_ifs.shown(what_if_id)["by"] != who.user:
                who.must("operate")
            return Json(plain(what_ifs.cancel(what_if_id)))

        return await exchange.run(ended)

    return routes


def _reader(exchange: Exchange, request: Request) -> Principal:
    """Who may see figures of all queues together. Raises: RejectedError (`forbidden`)."""
    who = exchange.who(request)
    who.must("read")
    if who.queues:
        message = f"this token of {who.user} is bound to queues, and a what-if tells of all"
        raise RejectedError(message, code="forbidden", hint="ask an admin for a token that is bound to none")
    return who
