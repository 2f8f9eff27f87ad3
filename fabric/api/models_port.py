"""The seam between the API and the directory of models: a protocol, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fabric.errors import UnknownNameError


class ModelsPort(Protocol):
    """Methods that take a name raise: UnknownNameError (`unknown_model`, `unknown_version`). All raise: UnavailableError."""

    def listed(self) -> list[dict[str, Any]]:
        """Every model; none where nothing was ever deployed."""
        ...

    def shown(self, name: str) -> dict[str, Any]: ...

    def usage(self) -> list[dict[str, Any]]:
        """The rows of `fabric.usage_form.MODEL_ROW_KEYS` but for their shares, also of models that are gone."""
        ...

    def delete(self, name: str) -> None: ...

    def logs(self, name: str, version: str, max_lines: int) -> str: ...

    def rollouts(self, name: str = "") -> list[dict[str, Any]]:
        """Of every model, or of one. Raises: UnknownNameError (`unknown_rollout`)."""
        ...

    def start_rollout(self, name: str, to: str, tier: str | None, spec: Mapping[str, Any], user: str) -> dict[str, Any]:
        """Raises: UserError (`bad_rollout`, `bad_guard`, `signature_differs`, …), RejectedError (`rollout_running`)."""
        ...

    def order_rollout(self, name: str, order: str, user: str) -> dict[str, Any]:
        """Raises: UnknownNameError (`unknown_rollout`), RejectedError (`rollout_ended`, `rollout_not_ready`)."""
        ...

    def roll_back(self, name: str, to: str, user: str) -> dict[str, Any]:
        """Raises: as `order_rollout`, UserError (`no_earlier_version`)."""
        ...

    def experiments(self, name: str = "") -> list[dict[str, Any]]:
        """Of every model, or of one. Raises: UnknownNameError (`unknown_experiment`)."""
        ...

    def start_experiment(self, name: str, arms: Mapping[str, float], metric: str, fields: Mapping[str, Any], user: str) -> dict[str, Any]:
        """Raises: UserError (`bad_experiment`), RejectedError (`experiment_running`, …)."""
        ...

    def stop_experiment(self, name: str, user: str) -> dict[str, Any]:
        """Raises: UnknownNameError (`unknown_experiment`), RejectedError (`experiment_ended`)."""
        ...


class NoModels:
    """Where nothing is served."""

    def listed(self) -> list[dict[str, Any]]:
        return []

    def usage(self) -> list[dict[str, Any]]:
        return []

    def shown(self, name: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])

    def delete(self, name: str) -> None:
        raise UnknownNameError.of("model", name, [])

    def logs(self, name: str, version: str, max_lines: int) -> str:
        raise UnknownNameError.of("model", name, [])

    def rollouts(self, name: str = "") -> list[dict[str, Any]]:
        if name:
            raise UnknownNameError.of("model", name, [])
        return []

    def start_rollout(self, name: str, to: str, tier: str | None, spec: Mapping[str, Any], user: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])

    def order_rollout(self, name: str, order: str, user: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])

    def roll_back(self, name: str, to: str, user: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])

    def experiments(self, name: str = "") -> list[dict[str, Any]]:
        if name:
            raise UnknownNameError.of("model", name, [])
        return []

    def start_experiment(self, name: str, arms: Mapping[str, float], metric: str, fields: Mapping[str, Any], user: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])

    def stop_experiment(self, name: str, user: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])
