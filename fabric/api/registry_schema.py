"""The registry's bodies and answers, as the API takes and gives them. What they may hold `fabric.registry.limits` decides."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fabric import codec
from fabric.api.schema import DIGEST, refusal
from fabric.errors import UserError
from fabric.registry.query import Query
from fabric.registry.signature import Signature
from fabric.registry.version import ModelFile, ModelVersion, NewVersion, RegisteredModel
from fabric.tensor_spec import TensorSpec


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class TensorBody(_Body):
    """One input or output. A size of -1 is any."""

    name: str
    datatype: str = Field(description="as the Open Inference Protocol names it: FP32, INT64, BYTES, …")
    shape: list[int]
    is_optional: bool = False

    def made(self) -> TensorSpec:
        return TensorSpec(self.name, self.datatype, tuple(self.shape), self.is_optional)


class SignatureBody(_Body):
    inputs: list[TensorBody] = []
    outputs: list[TensorBody] = []

    def made(self) -> Signature:
        return Signature(tuple(one.made() for one in self.inputs), tuple(one.made() for one in self.outputs))


class FileBody(_Body):
    path: str = Field(description="below the model's folder, with /")
    digest: str = Field(pattern=DIGEST, description="sha256 of its bytes, which are stored already")
    size_bytes: int = Field(default=0, description="told, never taken: the store knows it")


class RegisterRequest(_Body):
    """A version to register. Its files were sent to `/v1/registry/blobs/{digest}` before."""

    framework: str = Field(description="onnx, torchscript, tensorflow-savedmodel, …")
    files: list[FileBody] = Field(min_length=1, max_length=10_000)
    main: str = Field(default="", description="the file that is loaded; left out where the folder is")
    signature: SignatureBody | None = Field(default=None, description="left out where it is not known")
    source: str = Field(default="", description="where it came from")
    metadata: dict[str, str] = {}
    metrics: dict[str, float] = {}
    settings: dict[str, Any] = Field(default={}, description="those of its deploy")
    key: str = Field(default="", description="the same key gives the same version, so that this can be sent again")

    def made(self) -> NewVersion:
        files = tuple(ModelFile(file.path, file.digest) for file in self.files)
        signature = None if self.signature is None else self.signature.made()
        return NewVersion(self.framework, files, self.main, signature, self.source, self.metadata, self.metrics, self.settings, self.key)


class ChangeRequest(_Body):
    """What of a version can change; what is left out stays."""

    state: Literal["active", "deprecated"] | None = None
    why: str = Field(default="", description="of the state")
    metrics: dict[str, float | None] = Field(default={}, description="null takes one away")


class SearchQuery(_Body):
    """All that is given must hold. `metadata=task=cv` may come several times."""

    text: str = Field(default="", description="words that stand somewhere in name, framework, source or metadata")
    name: str = ""
    metadata: list[str] = Field(default=[], description="key=value; may be repeated")
    framework: str = ""
    state: Literal["active", "deprecated", "any"] = "active"
    user: str = ""
    alias: str = ""
    sort: str = Field(default="-created", description="created, name, size or metric:<name>; - before it: from the highest down")
    limit: int = Field(default=50, ge=1, le=1000)
    cursor: str = Field(default="", description="from the page before")

    def made(self) -> Query:
        """Raises: UserError (`bad_metadata`)."""
        pairs = [pair.partition("=") for pair in self.metadata]
        if not all(key and equals for key, equals, _ in pairs):
            raise UserError("metadata is not key=value", code="bad_metadata", hint="metadata=task=cv")
        given = self.model_dump(exclude={"metadata"})
        return Query(**given, metadata={key: value for key, _, value in pairs})


class PieceQuery(_Body):
    offset: int = Field(default=0, ge=0, lt=2**63)
    length: int = Field(default=8 * 2**20, ge=1, le=8 * 2**20)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VersionAnswer(_Answer):
    """One version. `digest` is its file's sha256, or where it has several the sha256 of their list as `sha256sum` prints it."""

    name: str
    number: int
    digest: str
    size_bytes: int
    framework: str
    files: list[FileBody]
    main: str
    user: str
    created_s: float
    signature: SignatureBody | None
    source: str
    metadata: dict[str, str]
    metrics: dict[str, float]
    settings: dict[str, Any]
    state: Literal["active", "deprecated"]
    why: str
    aliases: list[str]


class ModelAnswer(_Answer):
    """A name. `last_number`: the highest that was ever given. `aliases`: the number that each stands for."""

    name: str
    user: str
    created_s: float
    last_number: int
    aliases: dict[str, int]


class PageAnswer(_Answer):
    """`cursor`: to be sent for the next page; null: this is the last one."""

    versions: list[VersionAnswer]
    cursor: str | None


def version_json(version: ModelVersion) -> dict[str, Any]:
    encoded: dict[str, Any] = codec.encode(version)
    return encoded


def version_of(document: Any) -> ModelVersion:
    """The other way, for a client."""
    return codec.decode(ModelVersion, document)


def model_json(model: RegisteredModel) -> dict[str, Any]:
    encoded: dict[str, Any] = codec.encode(model)
    return encoded


def read_body(kind: type[BaseModel], body: bytes) -> Any:
    """Raises: UserError, UnknownNameError (`unknown_key`)."""
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise refusal(error, kind) from None


def read_parameters(kind: type[_Body], pairs: list[tuple[str, str]]) -> Any:
    """A query; `metadata` may come several times. Raises: UserError, UnknownNameError (`unknown_key`)."""
    given: dict[str, Any] = {name: value for name, value in pairs if name != "metadata"}
    several = [value for name, value in pairs if name == "metadata"]
    try:
        return kind.model_validate({**given, "metadata": several} if several else given)
    except ValidationError as error:
        raise refusal(error, kind) from None


def read_aliases(body: bytes) -> dict[str, int | None]:
    """`{"champion": 2, "old": null}`. Raises: UserError (`bad_request`; `duplicate_alias` where one is named twice)."""
    import json

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"alias {twice[:80]!r} is named twice", code="duplicate_alias", hint="an alias stands for one version")
        return dict(pairs)

    try:
        found = json.loads(body, object_pairs_hook=once)
    except ValueError as error:
        raise UserError(f"the body is not JSON: {error}", code="bad_request") from None
    is_sound = isinstance(found, dict) and all(number is None or (type(number) is int and 0 < number < 2**31) for number in found.values())
    if not is_sound or not 1 <= len(found) <= 100:
        raise UserError("aliases are an object of names and numbers", code="bad_request", hint='{"champion": 2, "old": null}')
    return dict(found)
