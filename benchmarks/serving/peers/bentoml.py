"""BentoML 1.4, one API worker, an asynchronous method that takes the body's fields as they come."""

from __future__ import annotations

from peers.recipe import Command, Place

_SERVICE = """
import bentoml

@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False}, traffic={"timeout": 60})
class Echo:
    @bentoml.api
    async def echo(self, id: str, inputs: list) -> dict:
        return {"id": id, "outputs": inputs}
"""


class BentoMl:
    name = "bentoml"
    requirements = ("bentoml==1.4.40", "uvloop", "httptools")

    def command(self, place: Place) -> Command:
        (place.workdir / "service.py").write_text(_SERVICE)
        argv = (
            *(str(place.python.with_name("bentoml")), "serve", "service:Echo", "--production", "--api-workers", "1"),
            *("--host", "127.0.0.1", "--port", str(place.http_port)),
        )
        env = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(place.workdir / "home")}
        return Command(argv, "/echo", env=env, ready_path="/readyz")
