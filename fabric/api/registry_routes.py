"""The pages of the registry: register, discover, aliases, changes, and the bytes of versions.

Everyone with a token sees what is registered; to register, and to read a version's bytes, takes `submit`. A model is its first user's to
change, and theirs who may `operate`.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.pages import page
from fabric.api.registry_schema import (
    ChangeRequest,
    ModelAnswer,
    PageAnswer,
    PieceQuery,
    RegisterRequest,
    SearchQuery,
    VersionAnswer,
    model_json,
    read_aliases,
    read_body,
    read_parameters,
    version_json,
)
from fabric.api.tokens import Principal
from fabric.registry.names import parse_number
from fabric.registry.registry import Registry
from fabric.registry.version import By

MAX_BLOB_BYTES = 2**40
_VERSION = "/models/{name}/versions/{version}"


def registry_routes(exchange: Exchange, registry: Registry) -> APIRouter:
    """Over one exchange."""
    routes = APIRouter(prefix="/v1/registry")
    _reading(routes, exchange, registry)
    _registering(routes, exchange, registry)
    _changing(routes, exchange, registry)
    _bytes(routes, exchange, registry)
    return routes


def _by(who: Principal) -> By:
    who.must("submit")
    return By(who.user, "operate" in who.scopes)


def _reading(routes: APIRouter, exchange: Exchange, registry: Registry) -> None:
    @routes.get("/versions", **page(PageAnswer, query=SearchQuery))
    async def discover(request: Request) -> Response:
        """Versions, by metadata, framework, words and more, a page at a time."""
        exchange.who(request)
        query = read_parameters(SearchQuery, request.query_params.multi_items()).made()

        def work() -> Response:
            found = registry.discover(query)
            return Json({"versions": [version_json(version) for version in found.versions], "cursor": found.cursor})

        return await exchange.run(work)

    @routes.get("/models/{name}", **page(ModelAnswer))
    async def model(request: Request, name: str) -> Response:
        """A name, its owner, its aliases and how many versions it has had."""
        exchange.who(request)
        return await exchange.run(lambda: Json(model_json(registry.model(name))))

    @routes.get(_VERSION, **page(VersionAnswer))
    async def version(request: Request, name: str, version: str) -> Response:
        """One version, by its number, an alias, or `latest`: the highest active number."""
        exchange.who(request)
        return await exchange.run(lambda: Json(version_json(registry.find(name, version))))


def _registering(routes: APIRouter, exchange: Exchange, registry: Registry) -> None:
    @routes.post("/models/{name}/versions", **page(VersionAnswer, body=pages.json_body(RegisterRequest), status=201))
    async def register(request: Request, name: str) -> Response:
        """Register the next version of a name. Its bytes are there already; with the same `key` it may be sent again."""
        by = _by(exchange.who(request))
        new = read_body(RegisterRequest, await exchange.body(request)).made()
        made = await exchange.run(lambda: registry.register(name, new, by, now_s=exchange.now_s()))
        return Json(version_json(made), status_code=201)


def _changing(routes: APIRouter, exchange: Exchange, registry: Registry) -> None:
    @routes.patch("/models/{name}/aliases", **page(ModelAnswer, body=_ALIASES))
    async def aliases(request: Request, name: str) -> Response:
        """Let aliases stand for versions, all in one step; null takes one away."""
        by = _by(exchange.who(request))
        wanted = read_aliases(await exchange.body(request))
        return await exchange.run(lambda: Json(model_json(registry.set_aliases(name, wanted, by))))

    @routes.patch(_VERSION, **page(VersionAnswer, body=pages.json_body(ChangeRequest)))
    async def change(request: Request, name: str, version: str) -> Response:
        """Deprecate a version or make it active again; set metrics."""
        by, number = _by(exchange.who(request)), parse_number(version)
        asked: ChangeRequest = read_body(ChangeRequest, await exchange.body(request))

        def work() -> Response:
            if asked.metrics or asked.state is None:
                made = registry.set_metrics(name, number, asked.metrics, by)
            if asked.state is not None:
                made = registry.mark(name, number, asked.state, by, why=asked.why)
            return Json(version_json(made))

        return await exchange.run(work)

    @routes.delete(_VERSION, **page(pages.answers(name="of the model", number="what is gone, and never given again")))
    async def delete(request: Request, name: str, version: str) -> Response:
        """Delete a version; refused while it is deployed or has an alias."""
        by, number = _by(exchange.who(request)), parse_number(version)
        await exchange.run(partial(registry.delete, name, number, by))
        return Json({"name": name, "number": number})


def _bytes(routes: APIRouter, exchange: Exchange, registry: Registry) -> None:
    @routes.put("/blobs/{digest}", **page(pages.answers(digest="its sha256"), body=pages.BYTES["content"], status=201))
    async def put(request: Request, digest: str) -> Response:
        """Store the bytes of a model's file under their sha256; what is cut off is not kept."""
        exchange.who(request).must("submit")
        await exchange.passed_on(request, partial(registry.receiving, digest), MAX_BLOB_BYTES)
        return Json({"digest": digest}, status_code=201)

    @routes.head("/blobs/{digest}", **page())
    async def has(request: Request, digest: str) -> Response:
        """200 where these bytes are kept, 404 where not."""
        exchange.who(request).must("submit")
        is_there = await exchange.run(partial(registry.has, digest))
        return Response(status_code=200 if is_there else 404)

    @routes.get(_VERSION + "/files/{path:path}", **page(pages.BYTES, query=PieceQuery))
    async def piece(request: Request, name: str, version: str, path: str) -> Response:
        """A file of a version from a byte on, up to 8 MiB; none behind its end."""
        exchange.who(request).must("submit")
        asked: PieceQuery = read_parameters(PieceQuery, request.query_params.multi_items())
        found = await exchange.run(lambda: registry.piece(name, version, path, asked.offset, asked.length))
        return Response(found, media_type="application/octet-stream")


_ALIASES = {
    "application/json": {
        "schema": {"type": "object", "additionalProperties": {"type": ["integer", "null"]}, "example": {"champion": 2, "old": None}}
    }
}
