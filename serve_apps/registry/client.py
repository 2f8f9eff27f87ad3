"""The registry over the fabric's API: from any machine, without Ray.

Bytes go first, and only those that are not there; the version is registered when all of them are.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fabric.api.address import TOKEN_FILE
from fabric.api.registry_schema import version_of
from fabric.api.tokens import read_token_file
from fabric.api_client import ApiClient, client_of
from fabric.artefacts import digest_of
from fabric.config import FabricConfig, api_from_environment, load_config
from fabric.errors import ConfigError, RuntimeFault, UnavailableError
from fabric.job_ids import new_job_id
from fabric.registry.names import Ref, check_name, parse_number, parse_ref
from fabric.registry.query import Page
from fabric.registry.version import ModelFile, ModelVersion, NewVersion, RegisteredModel, State
from serve_apps.registry.invoking import Invoker
from serve_apps.registry.reading import ReadModel, read_model
from serve_apps.tensors import Array

PIECE_BYTES = 8 * 2**20
UPLOAD_TIMEOUT_S = 3600.0
_ROOT = "/v1/registry"


class ModelRegistry:
    """See `ModelServiceInterface`, which it is, and beyond it: aliases, changes, bytes.

    `ModelRegistry()` is of the fabric that `FABRIC_API_URL` or the configuration names, else of the one that runs here. `serving`: the URL
    where models answer, by default what the configuration says. `tell` is given a line for its user.

    Every method raises UnavailableError where the fabric or its database is away; those that change something, RejectedError
    (`forbidden`).
    """

    def __init__(
        self,
        *,
        config: FabricConfig | None = None,
        api: ApiClient | None = None,
        serving: str = "",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config or load_config().config
        self.api = api or client_of(self._config)
        self._invoker = Invoker(lambda: serving or _serving_url(self._config), lambda: _token(self._config))
        self._tell = tell or (lambda _line: None)

    # -- the model service interface -----------------------------------------------------------------------------------------

    def register(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        metadata: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        source: str | None = None,
        settings: Mapping[str, Any] | None = None,
        loads: bool = True,
        is_trusted: bool | None = None,
    ) -> ModelVersion:
        """Keep a model file (with the weights beside it) or folder as the next version of `name`. It is loaded here once, to read its
        signature; `loads=False` leaves that out. `settings`: those of its deploy.

        Raises: UserError (`bad_…`), ModelError as `load_model`, RuntimeFault (`storage_full`): then nothing is registered.
        """
        check_name(name)
        read = read_model(Path(path), loads=loads, is_trusted=is_trusted)
        if read.note:
            self._tell(f"{name}: what it takes and gives is not known: {read.note}")
        return self.register_read(
            name,
            read,
            metadata=metadata or {},
            metrics=metrics or {},
            source=_source(path) if source is None else source,
            settings=settings,
        )

    def register_read(
        self,
        name: str,
        read: ReadModel,
        *,
        metadata: Mapping[str, str],
        metrics: Mapping[str, float],
        source: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """The same of what was read already."""
        for file, part in zip(read.files, read.parts, strict=True):
            self._send(file, part)
        key = str(new_job_id())
        new = NewVersion(
            read.framework, read.files, read.main, read.signature, source, dict(metadata), dict(metrics), dict(settings or {}), key
        )
        return self._registered(name, new)

    def discover(
        self,
        text: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str = "",
        **more: str,
    ) -> Page:
        """Active versions that hold all the words and all the metadata. `more`: `name`, `framework`, `state`, `user`, `alias`, `sort`, as
        `fabric.registry.query.Query` has them. Raises: UserError (`bad_…`, `unknown_key`)."""
        pairs = [f"{key}={value}" for key, value in (metadata or {}).items()]
        given = {"text": text, "cursor": cursor, **more}
        query = {**{key: value for key, value in given.items() if value}, "limit": limit, "metadata": pairs}
        told = self.api.get(f"{_ROOT}/versions", query)
        return Page(tuple(map(version_of, told["versions"])), told["cursor"])

    def invoke(self, ref: str, inputs: Mapping[str, Any] | Any, *, timeout_s: float = 60.0) -> dict[str, Array]:
        """Run a model that is deployed. A `name` alone is whatever version answers by default. Raises: as `Invoker.invoke`."""
        return self._invoker.invoke(parse_ref(ref), inputs, timeout_s)

    # -- beyond it -----------------------------------------------------------------------------------------------------------

    def all(self, text: str = "", **query: Any) -> Iterator[ModelVersion]:
        """Every version that `discover` finds, page after page."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.discover(text, cursor=cursor, **query)
            yield from page.versions
            cursor = page.cursor

    def model(self, name: str) -> RegisteredModel:
        """Raises: UnknownNameError (`unknown_model`)."""
        return _model_of(self.api.get(f"{_ROOT}/models/{check_name(name)}"))

    def find(self, ref: str) -> ModelVersion:
        """`resnet:3`, `resnet:champion`; `resnet` is its highest active number. Raises: UnknownNameError (`unknown_version`)."""
        return version_of(self.api.get(_path(parse_ref(ref))))

    def set_aliases(self, name: str, aliases: Mapping[str, int | None]) -> RegisteredModel:
        """All in one step; None takes one away. Raises: UserError (`bad_alias`), UnknownNameError (`unknown_version`)."""
        return _model_of(self.api.patch(f"{_ROOT}/models/{check_name(name)}/aliases", dict(aliases)))

    def mark(self, ref: str, state: State, *, why: str = "") -> ModelVersion:
        """Deprecate a version, or make it active again."""
        return version_of(self.api.patch(_numbered(ref), {"state": state, "why": why}))

    def set_metrics(self, ref: str, metrics: Mapping[str, float | None]) -> ModelVersion:
        """Those that are named; None takes one away."""
        return version_of(self.api.patch(_numbered(ref), {"metrics": dict(metrics)}))

    def delete(self, ref: str) -> None:
        """Raises: RejectedError (`version_served`, `version_aliased`)."""
        self.api.delete(_numbered(ref))

    def fetch(self, ref: str, folder: Path) -> Path:
        """The files of a version below `folder`, each whole and as it was registered; returns the one to load, or the folder.

        Raises: RuntimeFault (`artefact_corrupt`).
        """
        found = self.find(ref)
        for file in found.files:
            self._fetch_file(found, file, folder / file.path)
        return folder / found.main if found.main else folder

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _send(self, file: ModelFile, part: Path) -> None:
        if self.api.has(f"{_ROOT}/blobs/{file.digest}"):
            return
        self._tell(f"sending {file.path} ({file.size_bytes / 2**20:,.1f} MiB)")
        with part.open("rb") as content:
            kind = "application/octet-stream"
            self.api.ask("PUT", f"{_ROOT}/blobs/{file.digest}", body=content, kind=kind, timeout_s=UPLOAD_TIMEOUT_S)

    def _registered(self, name: str, new: NewVersion) -> ModelVersion:
        from fabric import codec

        document = codec.encode(new)
        return version_of(self.api.post(f"{_ROOT}/models/{check_name(name)}/versions", document))

    def _fetch_file(self, version: ModelVersion, file: ModelFile, target: Path) -> None:
        if target.is_file() and digest_of(target) == file.digest:
            return
        page = f"{_path(Ref(version.name, str(version.number)))}/files/{quote(file.path)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with aside.open("xb") as content:
                while content.tell() < file.size_bytes:
                    piece = self.api.ask("GET", page, query={"offset": content.tell(), "length": PIECE_BYTES}).body
                    if not piece:
                        break
                    content.write(piece)
            if digest_of(aside) != file.digest:
                raise RuntimeFault(f"{version.ref}: {file.path} is not what was registered", code="artefact_corrupt", hint="try again")
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


def _path(ref: Ref) -> str:
    return f"{_ROOT}/models/{ref.name}/versions/{ref.word}"


def _numbered(ref: str) -> str:
    """Changes are made to a number: an alias may stand for another version a moment later. Raises: UserError (`bad_version`)."""
    name, word = parse_ref(ref)
    return _path(Ref(name, str(parse_number(word))))


def _model_of(document: Any) -> RegisteredModel:
    from fabric import codec

    return codec.decode(RegisteredModel, document)


def _source(path: str | os.PathLike[str]) -> str:
    return Path(path).absolute().as_uri()


def _serving_url(config: FabricConfig) -> str:
    """Where this fabric's models answer, as seen from here. Beside an API on another machine, they answer there."""
    from urllib.parse import urlsplit

    url = api_from_environment()[0] or config.api.url
    host = config.serving.host if config.serving.host not in ("0.0.0.0", "::") else "127.0.0.1"
    if url and host == "127.0.0.1":
        host = urlsplit(url).hostname or host
    return f"http://{f'[{host}]' if ':' in host else host}:{config.serving.port}"


def _token(config: FabricConfig) -> str:
    """The API's token opens models, too; a fabric that asks for none is asked without one."""
    token = api_from_environment()[1]
    if token:
        return token
    try:
        return read_token_file(config.state_path / TOKEN_FILE)
    except (ConfigError, UnavailableError):
        return ""
