"""The model service interface: register a model, discover what there is, invoke one. Whoever serves models can be put behind it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

from fabric.registry.query import Page
from fabric.registry.version import ModelVersion
from serve_apps.tensors import Array


class ModelServiceInterface(Protocol):
    """Three verbs. Over HTTP: `POST /v1/registry/models/{name}/versions`, `GET /v1/registry/versions`, and `POST
    /v2/models/{name}/versions/{version}/infer` of the Open Inference Protocol. A *ref* is `name`, `name:number` or `name:alias`."""

    def register(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        metadata: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelVersion:
        """Keep a model file or folder as the next version of `name`; it is on disk, whole, when this returns."""
        ...

    def discover(self, text: str = "", *, metadata: Mapping[str, str] | None = None, limit: int = 50, cursor: str = "") -> Page:
        """Active versions that hold all the words and all the metadata, the newest first, a page at a time."""
        ...

    def invoke(self, ref: str, inputs: Mapping[str, Any] | Any, *, timeout_s: float = 60.0) -> dict[str, Array]:
        """Run a model that is deployed, once: arrays or lists by name (one alone, as it is, for a model of one input); every output by
        name. Text comes back as `str`."""
        ...
