"""The directory of models as the API reaches it: an actor that is there once something was deployed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fabric import ray_io
from fabric.api.models_port import ModelsPort
from fabric.errors import UnavailableError, UnknownNameError

ACTOR = "models"


class RayModels:
    """See `ModelsPort`."""

    def listed(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = ray_io.ask(self._directory().shown.remote()) if self._is_there() else []
        return models

    def usage(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ray_io.ask(self._directory().usage.remote()) if self._is_there() else []
        return rows

    def shown(self, name: str) -> dict[str, Any]:
        (model,) = ray_io.ask(self._directory(name).shown.remote(name))
        assert isinstance(model, dict)
        return model

    def delete(self, name: str) -> None:
        ray_io.ask(self._directory(name).delete.remote(name))

    def logs(self, name: str, version: str, max_lines: int) -> str:
        return str(ray_io.ask(self._directory(name).logs.remote(name, version, max_lines)))

    def rollouts(self, name: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ray_io.ask(self._directory(name).rollouts.remote(name)) if name or self._is_there() else []
        return found

    def start_rollout(self, name: str, to: str, tier: str | None, spec: Mapping[str, Any], user: str) -> dict[str, Any]:
        begun: dict[str, Any] = ray_io.ask(self._directory(name).start_rollout.remote(name, to, tier, dict(spec), user))
        return begun

    def order_rollout(self, name: str, order: str, user: str) -> dict[str, Any]:
        told: dict[str, Any] = ray_io.ask(self._directory(name).order_rollout.remote(name, order, user))
        return told

    def roll_back(self, name: str, to: str, user: str) -> dict[str, Any]:
        told: dict[str, Any] = ray_io.ask(self._directory(name).roll_back.remote(name, to, user))
        return told

    def experiments(self, name: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ray_io.ask(self._directory(name).experiments.remote(name)) if name or self._is_there() else []
        return found

    def start_experiment(self, name: str, arms: Mapping[str, float], metric: str, fields: Mapping[str, Any], user: str) -> dict[str, Any]:
        begun: dict[str, Any] = ray_io.ask(self._directory(name).start_experiment.remote(name, dict(arms), metric, dict(fields), user))
        return begun

    def stop_experiment(self, name: str, user: str) -> dict[str, Any]:
        told: dict[str, Any] = ray_io.ask(self._directory(name).stop_experiment.remote(name, user))
        return told

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


def served_numbers(models: ModelsPort, name: str) -> Collection[int]:
    """`fabric.registry.ports.ServedPort`: the versions of a model that the directory keeps and has not given up. A deployment is called by
    its version's number, with what tells it from others of that version behind a dot."""
    try:
        versions = models.shown(name)["versions"]
    except UnknownNameError:
        return frozenset()
    words = (str(version["version"]).partition(".")[0] for version in versions if version["state"] != "failed")
    return frozenset(int(word) for word in words if word.isdecimal())
