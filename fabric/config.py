"""What a user may set, read once at the edge: flag > FABRIC_* > fabric.yaml > default.

`FabricConfig` is the one schema of fabric.yaml, which may also be written as a Kubernetes object, a `TaskScheduler`. An unknown
key is refused with the nearest known one; nothing else in the product reads the environment.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fabric.errors import ConfigError, UnknownNameError, nearest_hint
from fabric.kubernetes.task_scheduler import settings_of
from fabric.types import DEFAULT_TIERS

CONFIG_FILE = "fabric.yaml"
ENV_PREFIX = "FABRIC_"
_TWIN_FLAVORS = {"hot": "a100-80g", "warm": "cloud-ai-100", "cold": "cpu"}
_NOT_SETTINGS = frozenset({
    "FABRIC_CONFIG", "FABRIC_ADDRESS", "FABRIC_API_URL", "FABRIC_TOKEN", "FABRIC_DATA_DIR",
    # What a job's processes are told.
    "FABRIC_PROGRESS", "FABRIC_FLAVOR", "FABRIC_JOB_ID", "FABRIC_ATTEMPT", "FABRIC_CHECKPOINT_DIR", "FABRIC_ARRAY_INDEX",
    "FABRIC_ARRAY_SIZE",
})  # fmt: skip


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id that no passwd file names
        return f"uid-{os.getuid()}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TierConfig(_Strict):
    """One tier; the order in the file is its rank, best first. `task_share`: the part of it that jobs leave to tasks."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    task_share: float = Field(default=0.0, ge=0, le=1)


class TwinPool(_Strict):
    """One pool of the laptop twin: a logical node of this machine that stands for one of `flavor`."""

    # A file may leave the flavor out where the tier has a usual one: `_fill_in_twins`.
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("required", None))

    flavor: str
    units: float = Field(default=1, ge=0, description="logical accelerators; ignored for CPU flavors")
    cpus: float | None = Field(default=None, gt=0, description="logical CPUs; default 1, all cores for a CPU flavor")
    slowdown: float = Field(default=1.0, ge=1, le=1000, description="each task's run time is stretched by this factor")


class DeviceConfig(_Strict):
    """A card that nothing detects, declared by hand."""

    kind: str
    name: str
    count: int = Field(ge=1)
    resource: str = ""
    flavor: str | None = None
    memory_gib: float | None = Field(default=None, gt=0)


class RoutingConfig(_Strict):
    """`waiting_usd_per_h` is what an hour of waiting for a result is worth: higher buys speed, 0 buys the cheapest."""

    waiting_usd_per_h: float = Field(default=10.0, ge=0)
    refresh_s: float = Field(default=0.5, ge=0.05, le=60)
    lost_flavor_grace_s: float = Field(default=60.0, ge=0, description="then a call whose flavor has no node left is cancelled")


class DashboardConfig(_Strict):
    enabled: bool = True
    port: int = Field(default=8265, ge=1, le=65535)


class ApiConfig(_Strict):
    """Where the job plane's API listens, and where clients find it if not in the state directory."""

    url: str | None = Field(default=None, description="of another machine's fabric")
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535, description="0: any that is free")


class ConsoleConfig(_Strict):
    """Where the console's page is. Whoever reaches it needs a token of the fabric all the same."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535, description="0: the one it had last, else any that is free")
    hosts: tuple[str, ...] = Field(default=(), description="further host names by which browsers reach it")


class ServingConfig(_Strict):
    """Where models are answered. `auto`: a token is needed unless this is a laptop's twin that listens on loopback."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535, description="of REST")
    grpc_port: int | None = Field(default=None, ge=1, le=65535, description="of gRPC; left out: the one after `port`")
    ingress: Literal["auto", "head", "replicas"] = Field(
        default="auto",
        description="machines that have one: the head, or each with a replica; auto: those, unless host is a loopback",
    )
    require_token: Literal["auto", "always", "never"] = "auto"
    parked: int | None = Field(default=None, ge=0, le=64, description="warm processes that wait for a model; left out: one, 0: none")


class ShippingConfig(_Strict):
    """Whether the head's SQLite files are kept in `storage_url`, too. `auto`: unless that is lost with `state_dir` anyway."""

    enabled: Literal["auto", "never"] = "auto"
    interval_s: float = Field(default=1.0, ge=0.1, le=60, description="how often what was committed is looked for")


class FabricConfig(_Strict):
    """The whole of fabric.yaml."""

    name: str = "tierfabric"
    tiers: tuple[TierConfig, ...] = tuple(TierConfig(name=name) for name in DEFAULT_TIERS)
    flavors: dict[str, dict[str, Any]] = Field(default_factory=dict)
    devices: tuple[DeviceConfig, ...] = ()
    twin: dict[str, TwinPool] = Field(default_factory=dict, description="default: one pool for each of hot, warm and cold")
    routing: RoutingConfig = RoutingConfig()
    dashboard: DashboardConfig = DashboardConfig()
    api: ApiConfig = ApiConfig()
    console: ConsoleConfig = ConsoleConfig()
    serving: ServingConfig = ServingConfig()
    log_to_driver: bool = Field(default=True, description="show what tasks print in the caller's terminal")
    user: str = Field(default_factory=_user)
    queue: str = "default"
    state_dir: Path = Path("~/.tierfabric")
    journal_url: str | None = Field(default=None, description="SQLAlchemy URL; default: SQLite in state_dir")
    storage_url: str | None = Field(
        default=None, description="fsspec URL for logs, checkpoints and artefacts; default: storage in state_dir"
    )
    shipping: ShippingConfig = ShippingConfig()
    autoscaling_config: Path = Field(
        default=Path("~/ray_bootstrap_config.yaml"),
        description="on the head: Ray's cluster file, or KubeRay's document, of which nodes could be started",
    )

    @field_validator("tiers")
    @classmethod
    def _tiers_are_distinct(cls, tiers: tuple[TierConfig, ...]) -> tuple[TierConfig, ...]:
        names = [tier.name for tier in tiers]
        if not names or len(set(names)) != len(names):
            raise ValueError("tiers must be at least one, each named once")
        return tiers

    @model_validator(mode="before")
    @classmethod
    def _fill_in_twins(cls, data: Any) -> Any:
        """Each of the standard tiers that the fabric has gets a twin pool, unless the file gives it another."""
        if not isinstance(data, dict):
            return data
        given, tiers = data.get("twin", {}), data.get("tiers", [{"name": name} for name in DEFAULT_TIERS])
        if not isinstance(given, dict) or not isinstance(tiers, list | tuple):
            return data
        named = [tier.get("name") if isinstance(tier, dict) else getattr(tier, "name", None) for tier in tiers]
        twin: dict[str, Any] = {tier: {"flavor": flavor} for tier, flavor in _TWIN_FLAVORS.items() if tier in named}
        for tier, pool in given.items():
            twin[tier] = {**twin.get(tier, {}), **pool} if isinstance(pool, dict) else pool
        return {**data, "twin": twin}

    @model_validator(mode="after")
    def _twins_name_tiers(self) -> FabricConfig:
        for tier in self.twin:
            if tier not in self.tier_names:
                raise ValueError(f"twin.{tier}: unknown tier {tier!r} ({nearest_hint(tier, self.tier_names)})")
        return self

    @property
    def tier_names(self) -> tuple[str, ...]:
        return tuple(tier.name for tier in self.tiers)

    @property
    def state_path(self) -> Path:
        return self.state_dir.expanduser()

    @property
    def storage(self) -> str:
        return self.storage_url or f"file://{self.state_path / 'storage'}"

    @property
    def database_url(self) -> str:
        return self.journal_url or f"sqlite:///{self.state_path / 'journal.db'}"

    @property
    def profiles_url(self) -> str:
        """A file of its own: what was measured can be measured again, and its loss must not touch the journal of jobs."""
        return self.journal_url or f"sqlite:///{self.state_path / 'profiles.db'}"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A validated configuration and, for each dotted key, where its value came from."""

    config: FabricConfig
    origins: Mapping[str, str]


def load_config(
    path: Path | None = None, *, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> LoadedConfig:
    """Merge flags over FABRIC_* over the file over the defaults.

    `flags` and variables use dotted keys: `routing.waiting_usd_per_h`, `FABRIC_ROUTING__WAITING_USD_PER_H`.

    Raises: ConfigError, UnknownNameError.
    """
    environ = os.environ if environ is None else environ
    file = path or _find_file(environ)
    merged: dict[str, Any] = _read_file(file) if file else {}
    origins = {key: str(file) for key, _ in _leaves(merged)}
    for name, value, origin in _overrides(flags or {}, environ):
        for key, part in _leaves({name: value}):
            _put(merged, key, part)
            origins[key] = origin
    config = _validate(merged, origins)
    for key, _ in _leaves(config.model_dump(mode="json")):
        origins.setdefault(key, next((origins[k] for k in origins if key.startswith(f"{k}.")), "default"))
    return LoadedConfig(config, origins)


def address_from_environment(environ: Mapping[str, str] | None = None) -> str | None:
    """FABRIC_ADDRESS, else RAY_ADDRESS, else None."""
    environ = os.environ if environ is None else environ
    return environ.get("FABRIC_ADDRESS") or environ.get("RAY_ADDRESS") or None


def api_from_environment(environ: Mapping[str, str] | None = None) -> tuple[str | None, str | None]:
    """FABRIC_API_URL and FABRIC_TOKEN; None for what is not set."""
    environ = os.environ if environ is None else environ
    return environ.get("FABRIC_API_URL") or None, environ.get("FABRIC_TOKEN") or None


def variable(name: str) -> str | None:
    """A variable that the user named, such as the one whose value becomes a job's secret."""
    return os.environ.get(name)


def set_ray_environment() -> None:
    """Choose Ray's settings that must be in the environment before Ray starts, unless the user chose.

    Tasks that ran out of memory are not retried by Ray with the same request, accelerators are not hidden from
    `num_gpus=0` work, and nothing is sent home.
    """
    os.environ.setdefault("RAY_task_oom_retries", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def validated(settings: Mapping[str, Any], origin: str) -> FabricConfig:
    """Settings that stand in another file, which `origin` names. Raises: ConfigError, UnknownNameError."""
    return _validate(settings, {key: origin for key, _ in _leaves(settings)})


def _find_file(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("FABRIC_CONFIG"):
        return Path(named)
    here = Path(CONFIG_FILE)
    return here if here.is_file() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", code="config_not_found") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}", code="config_not_yaml") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file} must be a mapping of settings, not a {type(document).__name__}")
    settings = settings_of({str(key): value for key, value in document.items()}, str(file))
    # A section whose every line is commented out reads as null: it is as if it were not there.
    return {str(key): value for key, value in settings.items() if value is not None}


def _overrides(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            try:
                value = yaml.safe_load(environ[name])
            except yaml.YAMLError as error:
                raise ConfigError(f"{name}={environ[name]!r} is not YAML: {error}", code="config_not_yaml") from error
            if value is not None:  # FABRIC_QUEUE= means: not set
                yield key, value, name
    for key, value in flags.items():
        yield key, value, "flag"


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {parent} is not a group of settings")
        tree = child
    tree[leaf] = value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _validate(merged: Mapping[str, Any], origins: Mapping[str, str]) -> FabricConfig:
    if isinstance(twin := merged.get("twin"), dict):
        merged = {**merged, "twin": {tier: pool for tier, pool in twin.items() if pool is not None}}
    try:
        return FabricConfig.model_validate(merged)
    except ValidationError as error:
        raise _translate(error, origins) from error


def _translate(error: ValidationError, origins: Mapping[str, str]) -> ConfigError | UnknownNameError:
    # A misspelt key comes first: that the right one is missing only follows from it.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    meant = (origin for name, origin in origins.items() if f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}."))
    where = next(meant, next(iter(origins.values()), "settings"))
    if first["type"] == "extra_forbidden":
        unknown = UnknownNameError.of("config key", str(first["loc"][-1]), _known_keys(first["loc"][:-1]))
        return UnknownNameError(f"{where}: unknown config key {key!r}", code=unknown.code, hint=unknown.hint, name=key)
    value = first.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{where}: {key + ': ' if key else ''}{message}{shown}", hint="see `fabric config show` for every setting")


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where an unknown one was met."""
    groups: dict[str, type[BaseModel]] = {
        "tiers": TierConfig,
        "twin": TwinPool,
        "devices": DeviceConfig,
        "routing": RoutingConfig,
        "dashboard": DashboardConfig,
        "api": ApiConfig,
        "console": ConsoleConfig,
        "serving": ServingConfig,
        "shipping": ShippingConfig,
    }
    model = groups[str(location[0])] if location else FabricConfig
    return list(model.model_fields)


def send_no_usage_data() -> None:
    """onnxruntime 1.29 and later uploads usage data on Linux, from a thread that starts when it is imported. A value that is set stays."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
