"""A deployed model by its name, wherever it was deployed from: what a service or a program calls that did not deploy it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_apps.deployment import Live


class RemoteModel:
    """Calls the version that answers now. Made where it is used: it can be given to another service's constructor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._live: Live | None = None

    def predict(self, **arguments: Any) -> Any:
        """`predict` on a replica, arguments by name. Raises: what it raises there; UnknownNameError (`unknown_model`)."""
        if self._live is None:
            from serve_apps.deployment import find

            self._live = find(self.name)
        return self._live.predict(arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteModel, (self.name,)


def remote(name: str) -> RemoteModel:
    """`serve_apps.remote("resnet").predict(x=image)`."""
    return RemoteModel(name)
