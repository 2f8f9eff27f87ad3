"""Many models in one pool of replicas: each replica keeps the last used ones loaded, at most `max_models`.

A request names its model in the argument `model_id` of `predict`: as the optional BYTES input of that name, as the request's parameter
`model_id` (REST and gRPC), or in the plain dialect. Requests of different models never share a batch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from serve_apps.model_service import ModelService


class LoadedModels:
    """Least recently used go first. Pure bookkeeping: `take` and `put` load and free nothing."""

    def __init__(self, max_models: int) -> None:
        self._max_models = max_models
        self._models: OrderedDict[str, Any] = OrderedDict()

    def take(self, model_id: str) -> Any | None:
        """The model, now the last used; None where it is not loaded."""
        model = self._models.get(model_id)
        if model is not None:
            self._models.move_to_end(model_id)
        return model

    def make_room(self) -> list[Any]:
        """What must go before one more fits; it is forgotten."""
        gone = []
        while len(self._models) >= self._max_models:
            gone.append(self._models.popitem(last=False)[1])
        return gone

    def put(self, model_id: str, model: Any) -> None:
        self._models[model_id] = model

    def ids(self) -> list[str]:
        """The last used one last."""
        return list(self._models)


class MultiModelService(ModelService):
    """Define `load(model_id)` and a `predict(self, …, model_id: str)` that calls `self.model(model_id)`.

    A model that has `close` is closed when it makes room for another; a call that still uses it must not run beside (one runs at a
    time unless `max_concurrency` says otherwise).
    """

    max_models = 4

    def load(self, model_id: str) -> Any:
        """Load one model. Raises: what your loading raises; the request that asked for the model gets it."""
        raise NotImplementedError(f"{type(self).__name__} has no load method")

    def model(self, model_id: str) -> Any:
        """The model, loaded if it is not; the least recently used one goes where there are too many."""
        state = vars(self)
        # Made here and not in a constructor: a subclass need not call one.
        lock: threading.Lock = state.setdefault("_models_lock", threading.Lock())
        with lock:
            models: LoadedModels = state.setdefault("_models", LoadedModels(self.max_models))
            model = models.take(model_id)
            if model is None:
                for gone in models.make_room():
                    if hasattr(gone, "close"):
                        gone.close()
                model = self.load(model_id)
                models.put(model_id, model)
            return model
