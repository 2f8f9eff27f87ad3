"""The seam between the API and the directory of models: a protocol, nothing else."""

from __future__ import annotations

from typing import Any, Protocol

from fabric.errors import UnknownNameError


class ModelsPort(Protocol):
    """Methods that take a name raise: UnknownNameError (`unknown_model`, `unknown_version`). All raise: UnavailableError."""

    def listed(self) -> list[dict[str, Any]]:
        """Every model; none where nothing was ever deployed."""
        ...

    def shown(self, name: str) -> dict[str, Any]: ...

    def delete(self, name: str) -> None: ...

    def logs(self, name: str, version: str, max_lines: int) -> str: ...


class NoModels:
    """Where nothing is served."""

    def listed(self) -> list[dict[str, Any]]:
        return []

    def shown(self, name: str) -> dict[str, Any]:
        raise UnknownNameError.of("model", name, [])

    def delete(self, name: str) -> None:
        raise UnknownNameError.of("model", name, [])

    def logs(self, name: str, version: str, max_lines: int) -> str:
        raise UnknownNameError.of("model", name, [])
