"""The pages of served models: what there is, who answers, their logs, and their end. Requests to models go to the serving ports."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.models_port import ModelsPort
from fabric.api.pages import page

_MODEL = pages.answers(
    name="its name", default="the version that answers who names none", versions="newest first: state, why, settings, place, replicas"
)


def model_routes(exchange: Exchange, models: ModelsPort) -> APIRouter:
    """Over one exchange."""
    routes = APIRouter(prefix="/v1/models")

    @routes.get("", **page(pages.answers(models="every model, by name")))
    async def listed(request: Request) -> Response:
        """Every model with its versions and replicas."""
        exchange.who(request)
        return await exchange.run(lambda: Json({"models": models.listed()}))

    @routes.get("/{name}", **page(_MODEL))
    async def show(request: Request, name: str) -> Response:
        """One model."""
        exchange.who(request)
        return await exchange.run(lambda: Json(models.shown(name)))

    @routes.delete("/{name}", **page(pages.answers(name="what is gone")))
    async def delete(request: Request, name: str) -> Response:
        """End all versions of a model; its own user may, and who may operate."""
        who = exchange.who(request)

        def run() -> Response:
            owners = {version["user"] for version in models.shown(name)["versions"]}
            if owners != {who.user}:
                who.must("operate")
            models.delete(name)
            return Json({"name": name})

        return await exchange.run(run)

    @routes.get("/{name}/logs", **page(pages.answers(name="of the model", text="the last lines of its replicas")))
    async def logs(request: Request, name: str, version: str = "", lines: Annotated[int, Query(ge=1, le=10_000)] = 200) -> Response:
        """The last lines that its replicas wrote, also those that are gone."""
        who = exchange.who(request)

        def run() -> Response:
            shown: dict[str, Any] = models.shown(name)
            if {each["user"] for each in shown["versions"]} != {who.user}:
                who.must("operate")
            return Json({"name": name, "text": models.logs(name, version, lines)})

        return await exchange.run(run)

    return routes
