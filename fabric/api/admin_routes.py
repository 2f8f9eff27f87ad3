"""The pages of the policy, of tokens, and of the fabric's health."""

from __future__ import annotations

from functools import partial
from typing import Any

import pydantic_core
from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.pages import page
from fabric.api.schema import Minted, RollbackRequest, TokenAnswer, TokenRequest, read
from fabric.durations import parse_duration
from fabric.errors import UserError
from fabric.job_form import plain

MAX_POLICY_BYTES = 2**20
_POLICY = pages.answers(version="its number", document="as its user wrote it", by="who applied it", applied_s="when")
_YAML = {"application/yaml": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}}


def admin_routes(exchange: Exchange) -> APIRouter:
    """Every page that is not about jobs, over one exchange."""
    routes = APIRouter(prefix="/v1")
    _policy(routes, exchange)
    _tokens(routes, exchange)

    @routes.get("/health", responses={200: pages.answers(status="ok", api="v1") | {"description": "it answers"}}, response_model=None)
    async def health() -> Response:
        """Whether the API answers; the only page that needs no token."""
        return Json({"status": "ok", "api": "v1"})

    return routes


def _policy(routes: APIRouter, exchange: Exchange) -> None:
    plane = exchange.plane

    @routes.get("/policy", **page(_POLICY))
    async def show(request: Request) -> Response:
        """The policy in force."""
        exchange.who(request)
        return await exchange.run(lambda: Json(plain(plane.policy_show())))

    @routes.put("/policy", **page(pages.answers(version="the new version"), body=_YAML))
    async def apply(request: Request) -> Response:
        """Apply a policy, live; one with a mistake is refused, and the one in force stays."""
        who = exchange.who(request)
        who.must("admin")
        body = await exchange.body(request, MAX_POLICY_BYTES)
        document = _document(body, request.headers.get("content-type", ""))
        return await exchange.run(lambda: Json({"version": plane.policy_apply(document, who.user)}))

    @routes.get("/policy/history", **page(pages.answers(versions="every version, newest first")))
    async def history(request: Request) -> Response:
        """Every version that was ever in force."""
        exchange.who(request)
        return await exchange.run(lambda: Json({"versions": plain(list(plane.policy_history()))}))

    @routes.post("/policy/rollback", **page(pages.answers(version="the new version"), body=pages.json_body(RollbackRequest)))
    async def rollback(request: Request) -> Response:
        """Apply an older version anew."""
        who = exchange.who(request)
        who.must("admin")
        wanted: RollbackRequest = read(RollbackRequest, await exchange.body(request))
        return await exchange.run(lambda: Json({"version": plane.policy_rollback(wanted.version, who.user)}))


def _document(body: bytes, kind: str) -> str | dict[str, Any]:
    try:
        if not kind.startswith("application/json"):
            return body.decode()
        document = pydantic_core.from_json(body)
    except ValueError as error:
        raise UserError(f"the policy cannot be read: {error}", code="bad_policy") from None
    if not isinstance(document, dict):
        raise UserError(f"a policy must be a mapping, not a {type(document).__name__}", code="bad_policy")
    return document


def _tokens(routes: APIRouter, exchange: Exchange) -> None:
    tokens = exchange.tokens

    @routes.post("/tokens", **page(Minted, body=pages.json_body(TokenRequest), status=201))
    async def create(request: Request) -> Response:
        """Make a token. It is told once, in this answer."""
        who = exchange.who(request)
        who.must("admin")
        wanted: TokenRequest = read(TokenRequest, await exchange.body(request))
        expires_in_s = None if wanted.expires is None else parse_duration(wanted.expires)
        mint = partial(
            tokens.mint, wanted.user, wanted.scopes, queues=wanted.queues, expires_in_s=expires_in_s, note=wanted.note, by=who.user
        )
        token, record = await exchange.run(mint)
        return Json({"token": token, **record.as_json()}, status_code=201, headers={"cache-control": "no-store"})

    @routes.get("/tokens", **page(pages.answers(tokens="each as a TokenAnswer, newest first")))
    async def listed(request: Request) -> Response:
        """All tokens, but for their secrets."""
        exchange.who(request).must("admin")
        return Json({"tokens": [record.as_json() for record in tokens.listed()]})

    @routes.delete("/tokens/{token_id}", **page(TokenAnswer))
    async def revoke(request: Request, token_id: str) -> Response:
        """Revoke a token: it opens nothing from now on."""
        exchange.who(request).must("admin")
        record = await exchange.run(lambda: tokens.revoke(token_id))
        return Json(record.as_json())
