"""Serving models on the fabric: what a user imports. Importing this package brings in neither Ray nor a model runtime.

`ModelRegistry` is loaded when it is first asked for: replicas, which import this package, do without the API's forms.

`load_model` is bound here at once and not through a lazy `__getattr__`: its module bears the same name, so the first import of that
module, wherever it happened, would otherwise put the module in the function's place.
"""

from typing import TYPE_CHECKING, Any

from serve_apps.declare import Shape, batched
from serve_apps.load_model import load_model
from serve_apps.model_service import ModelService
from serve_apps.multi_model import MultiModelService
from serve_apps.remote_model import RemoteModel, remote
from serve_apps.rollout.spec import Canary
from serve_apps.shadow_call import is_shadow

if TYPE_CHECKING:
    from serve_apps.registry.client import ModelRegistry

__all__ = [
    "Canary",
    "ModelRegistry",
    "ModelService",
    "MultiModelService",
    "RemoteModel",
    "Shape",
    "batched",
    "is_shadow",
    "load_model",
    "remote",
]


def __getattr__(name: str) -> Any:
    if name == "ModelRegistry":
        from serve_apps.registry.client import ModelRegistry

        return ModelRegistry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
