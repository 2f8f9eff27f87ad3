"""Which route a path is: plain table look-ups, no framework."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

_GET = ("GET", "HEAD")
_POST = ("POST",)


@dataclass(frozen=True, slots=True)
class Route:
    """`kind` names the handler."""

    kind: str
    methods: tuple[str, ...]
    model: str = ""
    version: str = ""


_SERVER = {
    ("v2",): Route("server_metadata", _GET),
    ("v2", "health", "live"): Route("live", _GET),
    ("v2", "health", "ready"): Route("ready", _GET),
    ("v2", "models", "stats"): Route("statistics", _GET),
    ("v2", "repository", "index"): Route("index", _POST),
    ("grpc", "ModelInfer"): Route("grpc_infer", _POST),
    ("inference.GRPCInferenceService", "ModelInfer"): Route("grpc_call", _POST),
    ("grpc", "ModelStreamInfer"): Route("grpc_stream", _POST),
    ("grpc", "ModelReady"): Route("grpc_describe", _POST, "ModelReady"),
    ("grpc", "ModelMetadata"): Route("grpc_describe", _POST, "ModelMetadata"),
    ("grpc", "ModelConfig"): Route("grpc_describe", _POST, "ModelConfig"),
    ("grpc", "ModelStatistics"): Route("grpc_describe", _POST, "ModelStatistics"),
}
_MODEL = {
    "": ("model_metadata", _GET),
    "ready": ("model_ready", _GET),
    "config": ("model_config", _GET),
    "stats": ("statistics", _GET),
    "infer": ("infer", _POST),
    "generate": ("generate", _POST),
    "generate_stream": ("generate_stream", _POST),
}
_LONGEST_PATH = 2048
_REPOSITORY = {"load": "load", "unload": "unload"}
_SIMPLE = {"predict": ("predict", _POST), "healthz": ("healthz", _GET)}


def route_of(path: str) -> Route | None:
    """None where nothing is. A slash at the end does not matter."""
    # Long paths never enter the cache: whoever asks would else have this process keep them.
    return _route_of(path) if len(path) <= _LONGEST_PATH else None


@lru_cache(maxsize=1024)
def _route_of(path: str) -> Route | None:
    parts = tuple(path.strip("/").split("/"))
    if parts in _SERVER:
        return _SERVER[parts]
    if parts[:2] == ("v2", "models"):
        return _of_model(parts[2:])
    if parts[:3] == ("v2", "repository", "models") and len(parts) == 5 and parts[4] in _REPOSITORY:
        return Route(_REPOSITORY[parts[4]], _POST, parts[3])
    if len(parts) == 2 and parts[1] in _SIMPLE:
        kind, methods = _SIMPLE[parts[1]]
        return Route(kind, methods, parts[0])
    return None


def _of_model(parts: tuple[str, ...]) -> Route | None:
    """`{model}[/versions/{version}][/{verb}]`"""
    version = ""
    if len(parts) >= 3 and parts[1] == "versions":
        version = parts[2]
        parts = (parts[0], *parts[3:])
        if not version:
            return None
    if not 1 <= len(parts) <= 2 or not parts[0]:
        return None
    found = _MODEL.get(parts[1] if len(parts) == 2 else "")
    return None if found is None else Route(found[0], found[1], parts[0], version)
