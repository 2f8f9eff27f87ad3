"""The pages of experiments: divide a model's traffic, see which arm is better, and end it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fabric.api import pages
from fabric.api.exchange import Exchange, Json
from fabric.api.models_port import ModelsPort
from fabric.api.pages import page
from fabric.api.registry_schema import read_body
from fabric.api.rollout_routes import must_own

_EXPERIMENT = pages.answers(
    model="its name", metric="what is compared", state="running, concluded or stopped", winner="the better arm, when that is certain",
    arms="each with its weight, values, mean and the intervals in which it lies",
)  # fmt: skip


class ExperimentRequest(BaseModel):
    """Which versions of a model get how much."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str
    arms: dict[str, float] = Field(description="percent by version or alias; they sum to 100")
    metric: str = Field(min_length=1, max_length=64, description="as it is posted to /v2/models/{name}/feedback")
    is_higher_better: bool = True
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="how likely a winner is none")


def experiment_routes(exchange: Exchange, models: ModelsPort) -> APIRouter:
    """Over one exchange."""
    routes = APIRouter(prefix="/v1/experiments")

    @routes.get("", **page(pages.answers(experiments="every model's experiment that is under way, or its last")))
    async def listed(request: Request) -> Response:
        """Every model's experiment."""
        exchange.who(request)
        return await exchange.run(lambda: Json({"experiments": models.experiments()}))

    @routes.post("", **page(_EXPERIMENT, body=pages.json_body(ExperimentRequest), status=201))
    async def start(request: Request) -> Response:
        """Begin one. Versions that do not run are started first."""
        who = exchange.who(request)
        wanted: ExperimentRequest = read_body(ExperimentRequest, await exchange.body(request))

        def run() -> Response:
            must_own(who, models, wanted.model)
            fields = {"is_higher_better": wanted.is_higher_better, "alpha": wanted.alpha}
            return Json(models.start_experiment(wanted.model, wanted.arms, wanted.metric, fields, who.user), 201)

        return await exchange.run(run)

    @routes.get("/{name}", **page(_EXPERIMENT))
    async def show(request: Request, name: str) -> Response:
        """How a model's experiment stands."""
        exchange.who(request)
        return await exchange.run(lambda: Json(models.experiments(name)[0]))

    @routes.post("/{name}/stop", **page(_EXPERIMENT))
    async def stop(request: Request, name: str) -> Response:
        """End it: what answered before gets everything."""
        who = exchange.who(request)

        def run() -> Response:
            must_own(who, models, name)
            return Json(models.stop_experiment(name, who.user))

        return await exchange.run(run)

    return routes
