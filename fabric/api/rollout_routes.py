"""The pages of rollouts: begin one, see how it stands, hold it, end it either way, and go back to a version that was there before."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.models_port import ModelsPort
from fabric.api.pages import page
from fabric.api.registry_schema import read_body
from fabric.api.tokens import Principal
from fabric.errors import UnknownNameError

ORDERS = ("pause", "resume", "promote", "abort")
_ROLLOUT = pages.answers(
    model="its name", state="starting, shadow, stepping, paused, promoted, rolled_back, aborted or failed", reason="why it stands there",
    percent="of the requests that the new version gets", shares="ten-thousandths by deployment", guards="each with its verdict and figures",
)  # fmt: skip


class RolloutRequest(BaseModel):
    """`spec`: the fields of a `Canary`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    to: str = Field(default="", description="a registered version: its number or an alias; left out: the latest")
    tier: str | None = Field(default=None, description="where the new version runs; left out: where the router says")
    spec: dict[str, Any] = Field(default={}, description="steps, guards, soak, shadow_first, min_samples, max_surge, …")


class BackRequest(BaseModel):
    """Where to go back to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(default="", description="a version; left out: the one before")


def rollout_routes(exchange: Exchange, models: ModelsPort) -> APIRouter:
    """Over one exchange."""
    routes = APIRouter(prefix="/v1/rollouts")
    _orders(routes, exchange, models)

    @routes.get("", **page(pages.answers(rollouts="every model's rollout that is under way, or its last")))
    async def listed(request: Request) -> Response:
        """Every model's rollout."""
        exchange.who(request)
        return await exchange.run(lambda: Json({"rollouts": models.rollouts()}))

    @routes.post("", **page(_ROLLOUT, body=pages.json_body(RolloutRequest), status=201))
    async def start(request: Request) -> Response:
        """Begin one: the version is deployed beside the one that answers, and gets its first requests when it is ready."""
        who = exchange.who(request)
        wanted: RolloutRequest = read_body(RolloutRequest, await exchange.body(request))

        def run() -> Response:
            must_own(who, models, wanted.model)
            return Json(models.start_rollout(wanted.model, wanted.to, wanted.tier, wanted.spec, who.user), 201)

        return await exchange.run(run)

    @routes.get("/{name}", **page(_ROLLOUT))
    async def show(request: Request, name: str) -> Response:
        """How a model's rollout stands."""
        exchange.who(request)
        return await exchange.run(lambda: Json(models.rollouts(name)[0]))

    return routes


def _orders(routes: APIRouter, exchange: Exchange, models: ModelsPort) -> None:
    # Before the next: `rollback` would be taken for an order.
    @routes.post("/{name}/rollback", **page(pages.answers(model="its name", version="that answers"), body=pages.json_body(BackRequest)))
    async def rollback(request: Request, name: str) -> Response:
        """End what is under way, or bring back an earlier version; it answers when this does."""
        who = exchange.who(request)
        body = await exchange.body(request)
        wanted: BackRequest = read_body(BackRequest, body or b"{}")

        def run() -> Response:
            must_own(who, models, name)
            return Json(models.roll_back(name, wanted.to, who.user))

        return await exchange.run(run)

    @routes.post("/{name}/{order}", **page(_ROLLOUT))
    async def order(request: Request, name: str, order: str) -> Response:
        """`pause` it, `resume` it, `promote`: give the new version everything now, or `abort`: take everything away from it."""
        who = exchange.who(request)
        if order not in ORDERS:
            raise UnknownNameError.of("order", order, ORDERS)

        def run() -> Response:
            must_own(who, models, name)
            return Json(models.order_rollout(name, order, who.user))

        return await exchange.run(run)


def must_own(who: Principal, models: ModelsPort, name: str) -> None:
    """A model's traffic is changed by its user, and by who may operate. Raises: UnknownNameError (`unknown_model`), RejectedError."""
    if {version["user"] for version in models.shown(name)["versions"]} != {who.user}:
        who.must("operate")
