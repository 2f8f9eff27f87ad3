"""The directory of models as the API reaches it: an actor that is there once something was deployed."""

from __future__ import annotations

from typing import Any

from fabric import ray_io
from fabric.errors import UnavailableError, UnknownNameError

ACTOR = "models"


class RayModels:
    """See `ModelsPort`."""

    def listed(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = ray_io.ask(self._directory().shown.remote()) if self._is_there() else []
        return models

    def shown(self, name: str) -> dict[str, Any]:
        (model,) = ray_io.ask(self._directory(name).shown.remote(name))
        assert isinstance(model, dict)
        return model

    def delete(self, name: str) -> None:
        ray_io.ask(self._directory(name).delete.remote(name))

    def logs(self, name: str, version: str, max_lines: int) -> str:
        return str(ray_io.ask(self._directory(name).logs.remote(name, version, max_lines)))

    def _directory(self, name: str = "") -> Any:
        if not self._is_there():
            raise UnknownNameError.of("model", name, [])
        return ray_io.actor(ACTOR)

    def _is_there(self) -> bool:
        try:
            ray_io.actor(ACTOR)
        except UnavailableError:
            return False
        return True
