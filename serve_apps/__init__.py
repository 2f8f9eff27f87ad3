"""Serving models on the fabric: what a user imports. Importing this package brings in neither Ray nor a model runtime.

`load_model` is bound here at once and not through a lazy `__getattr__`: its module bears the same name, so the first import of that
module, wherever it happened, would otherwise put the module in the function's place.
"""

from serve_apps.declare import Shape, batched
from serve_apps.load_model import load_model
from serve_apps.model_service import ModelService
from serve_apps.multi_model import MultiModelService
from serve_apps.registry.client import ModelRegistry
from serve_apps.remote_model import RemoteModel, remote

__all__ = ["ModelRegistry", "ModelService", "MultiModelService", "RemoteModel", "Shape", "batched", "load_model", "remote"]
