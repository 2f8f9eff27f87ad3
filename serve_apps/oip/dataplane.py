"""The data plane: which models this process holds, and what is asked of them, in no protocol.

Invariants: a name may have several versions, all of which answer when asked for by number; a request that names none goes to the
version that was made the default, else to the newest that is ready. Errors are domain errors, without statuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fabric.errors import RejectedError, UnknownNameError, UserError
from serve_apps.oip.classification import classify
from serve_apps.served_model import ServedModel
from serve_apps.tensors import InferRequest, InferResponse, ModelMetadata

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version in the repository's index. `state`: `READY`, `UNAVAILABLE`, `LOADING`, `UNLOADING`, as Triton has them."""

    name: str
    version: str
    state: str
    reason: str = ""


class DataPlane:
    """The models of one process. Used on its event loop only. `takes_aliases`: a version that is no number was resolved by the ingress, as
    in a replica, which has one version of one model and knows none of its aliases."""

    def __init__(self, server_name: str = "tierfabric", server_version: str = "", *, takes_aliases: bool = False) -> None:
        self._takes_aliases = takes_aliases
        self.server_name = server_name
        self.server_version = server_version
        self.is_draining = False
        self._models: dict[str, dict[str, ServedModel]] = {}
        self._defaults: dict[str, str] = {}

    # -- what it holds -------------------------------------------------------------------------------------------------

    def add(self, model: ServedModel) -> None:
        """Answer for `model` from now on; replaces one of the same name and version."""
        self._models.setdefault(model.metadata.name, {})[model.version] = model

    def remove(self, name: str, version: str = "") -> ServedModel:
        """Answer for it no longer. The caller closes what comes back. Raises: as `model`."""
        model = self.model(name, version)
        versions = self._models[name]
        del versions[model.version]
        if self._defaults.get(name) == model.version:
            del self._defaults[name]
        if not versions:
            del self._models[name]
        return model

    def set_default(self, name: str, version: str) -> None:
        """Which version answers a request that names none. Raises: as `model`."""
        self._defaults[name] = self.model(name, version).version

    def model(self, name: str, version: str = "") -> ServedModel:
        """Raises: UnknownNameError (`unknown_model`, `unknown_version`)."""
        versions = self._models.get(name)
        if versions is None:
            raise UnknownNameError.of("model", name, self._models)
        version = version or self._defaults.get(name, "")
        if not version:
            return _newest(versions)
        model = versions.get(version)
        if model is None and self._takes_aliases and _may_stand_for(version, versions):
            return _newest(versions)
        if model is None:
            hint = f"it has {', '.join(versions)}"
            raise UnknownNameError(f"model {name!r} has no version {version!r}", code="unknown_version", hint=hint)
        return model

    def models(self) -> list[ServedModel]:
        """All of them, by name and version."""
        return [versions[v] for _, versions in sorted(self._models.items()) for v in sorted(versions, key=_age)]

    # -- health and descriptions ---------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        return not self.is_draining and all(model.is_ready for model in self.models())

    def is_model_ready(self, name: str, version: str = "") -> bool:
        """False also for a model that is not here."""
        try:
            return self.model(name, version).is_ready
        except UnknownNameError:
            return False

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """With all versions of the name that are here. Raises: as `model`."""
        metadata = self.model(name, version).metadata
        return replace(metadata, versions=tuple(sorted(self._models[name], key=_age)))

    def statistics(self, name: str = "", version: str = "") -> list[Mapping[str, Any]]:
        """Of one version, of all versions of a name, or of all models. Raises: UserError (`no_statistics`) where none is so named."""
        found = [model for model in self.models() if name in ("", model.metadata.name) and version in ("", model.version)]
        if not found and name:
            raise UserError(f"no model {name!r} of version {version or 'any'!r} has statistics", code="no_statistics")
        return [{"name": model.metadata.name, "version": model.version, **model.statistics()} for model in found]

    def index(self, *, only_ready: bool = False) -> list[IndexEntry]:
        entries = []
        for model in self.models():
            state, reason = ("READY", "") if model.is_ready else ("UNAVAILABLE", "not ready")
            if model.is_ready or not only_ready:
                entries.append(IndexEntry(model.metadata.name, model.version, state, reason))
        return entries

    # -- inference -----------------------------------------------------------------------------------------------------

    async def infer(self, request: InferRequest) -> InferResponse:
        """The one answer to a request. Raises: as `model`, as `ServedModel.infer`, UserError (`unsupported`) for a model that streams."""
        model = self._checked(request)
        if model.metadata.is_streaming:
            raise UserError(
                f"model {request.model_name!r} may give several answers to one request",
                code="unsupported",
                hint="use generate_stream, or ModelStreamInfer over gRPC",
            )
        return _finished(request, await model.infer(request), model)

    async def stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """All answers, as they come. Raises: as `infer`."""
        model = self._checked(request)
        async for response in model.stream(request):
            yield _finished(request, response, model)

    def _checked(self, request: InferRequest) -> ServedModel:
        model = self.model(request.model_name, request.model_version)
        if not model.is_ready:
            raise RejectedError(f"model {request.model_name!r} is not ready", code="loading", retryable=True)
        names = {tensor.name for tensor in request.inputs}
        if len(names) != len(request.inputs):
            raise UserError("an input is given twice", code="duplicate_input")
        return model


def _finished(request: InferRequest, response: InferResponse, model: ServedModel) -> InferResponse:
    response.id = request.id
    if not request.outputs:
        return response
    if len(response.outputs) > 1:
        # In the model's order and each once, however they were asked for. Source: Triton 2.51, measured.
        given = {tensor.name: tensor for tensor in response.outputs}
        declared = [given.pop(spec.name) for spec in model.metadata.outputs if spec.name in given]
        response.outputs = (*declared, *given.values())
    return classify(response, request.outputs, is_batched=model.metadata.max_batch_size > 0)


def _may_stand_for(asked: str, versions: Mapping[str, ServedModel]) -> bool:
    """Whether the one version that is here may be the one that `asked` names: an alias, or another deployment (`3.1`) of it."""
    number = asked.partition(".")[0]
    return len(versions) == 1 and (not number.isdecimal() or number == next(iter(versions)).partition(".")[0])


def _newest(versions: Mapping[str, ServedModel]) -> ServedModel:
    if len(versions) == 1:
        return next(iter(versions.values()))
    newest_first = sorted(versions, key=_age, reverse=True)
    return versions[next((version for version in newest_first if versions[version].is_ready), newest_first[0])]


def _age(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else -1, version)
