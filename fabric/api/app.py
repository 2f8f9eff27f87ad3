"""The API as one ASGI application: version 1, every page under `/v1`, its OpenAPI document at `/v1/openapi.json`."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from fabric.api.account_routes import account_routes
from fabric.api.admin_routes import admin_routes
from fabric.api.exchange import Exchange, on_any_error, on_disconnect, on_fabric_error, refused
from fabric.api.experiment_routes import experiment_routes
from fabric.api.job_routes import job_routes
from fabric.api.model_routes import model_routes
from fabric.api.models_port import ModelsPort, NoModels
from fabric.api.node_routes import node_routes
from fabric.api.nodes_port import NodesPort, NoNodes
from fabric.api.port import JobPlanePort
from fabric.api.registry_routes import registry_routes
from fabric.api.rollout_routes import rollout_routes
from fabric.api.tokens import Tokens
from fabric.api.what_if_port import WhatIfPort
from fabric.api.what_if_routes import what_if_routes
from fabric.errors import FabricError, RuntimeFault, UserError
from fabric.registry.registry import Registry

API_VERSION = "1"
OPENAPI = "/v1/openapi.json"


def create_app(
    plane: JobPlanePort,
    tokens: Tokens,
    *,
    models: ModelsPort | None = None,
    nodes: NodesPort | None = None,
    registry: Registry | None = None,
    what_ifs: WhatIfPort | None = None,
    now_s: Callable[[], float] = time.time,
) -> FastAPI:
    """The application over a plane of this process. `models`, `nodes`, `registry`, `what_ifs`: None where nothing is served, where there
    are no pools, where there is no registry, where no policy is tried. `now_s` is the wall clock."""
    app = FastAPI(
        title="tierfabric jobs",
        version=API_VERSION,
        description="Submit jobs to a fabric, follow them, and set its policy. Every page but /v1/health needs a token.",
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=on_errors(OPENAPI),
    )
    exchange = Exchange(plane, tokens, now_s)
    app.include_router(job_routes(exchange))
    app.include_router(admin_routes(exchange))
    app.include_router(node_routes(exchange, nodes or NoNodes()))
    served = models or NoModels()
    for made in (account_routes, model_routes, rollout_routes, experiment_routes):
        app.include_router(made(exchange, served))
    if registry is not None:
        app.include_router(registry_routes(exchange, registry))
    if what_ifs is not None:
        app.include_router(what_if_routes(exchange, what_ifs))
    describe_token(app)
    return app


def describe_token(app: FastAPI) -> None:
    """Its OpenAPI document says what a token is."""
    plain_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain_openapi()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {"type": "http", "scheme": "bearer", "description": "a token that `fabric token create` made"}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def on_errors(openapi: str) -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
    """What an application does with each kind of error. `openapi`: where its pages are described."""

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return refused(UserError(f"{request.method} is not for {request.url.path}", code="method_not_allowed", hint=f"see {openapi}"))
        return refused(UserError(f"there is no page {request.url.path}", code="no_such_page", hint=f"see {openapi}"))

    return {
        FabricError: on_fabric_error,
        HTTPException: on_http_error,
        ClientDisconnect: on_disconnect,
        OSError: _on_os_error,
        Exception: on_any_error,
    }


async def _on_os_error(_request: Request, error: Exception) -> Response:
    """The disk under a body that is being read, or under whatever the plane does not map itself."""
    hint = "make room on the machine of the API"
    return refused(RuntimeFault(f"the machine of the API failed: {error}", code="storage_failed", hint=hint))
