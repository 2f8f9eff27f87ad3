"""A cluster file: Ray's own format, checked before anything is touched. What is wrong is named by its key, with the nearest right one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from fabric.errors import ConfigError, RuntimeFault, UnknownNameError, nearest_hint
from fabric.machines import plan
from fabric.text_file import read_text


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """`config`: as it stands. `cluster`: its machines, where they are one's own; None where Ray's providers rent them."""

    path: Path
    config: Mapping[str, Any]
    cluster: plan.Cluster | None

    @property
    def name(self) -> str:
        return str(self.config["cluster_name"])

    @property
    def provider(self) -> str:
        return str(self.config["provider"]["type"])


def read_cluster_file(path: Path) -> ClusterFile:
    """Raises: ConfigError (`no_such_file`, `config_not_yaml`, `bad_cluster_file`), UnknownNameError (`bad_cluster_file`)."""
    text = read_text(path, "cluster file")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}", code="config_not_yaml") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is no cluster file: not a mapping", code="bad_cluster_file", hint="see cluster_configs/onprem.yaml")
    try:
        check_schema(config)
        cluster = plan.read_cluster(config) if plan.is_machines(config) else None
    except (ConfigError, UnknownNameError) as error:
        raise type(error)(f"{path}: {error.message}", code=error.code, hint=error.hint) from error
    return ClusterFile(path, config, cluster)


def check_schema(config: Mapping[str, Any]) -> None:
    """By Ray's own schema. Raises: ConfigError, UnknownNameError (`bad_cluster_file`)."""
    if (odd := _odd_key(config, "")) is not None:
        raise ConfigError(f"the key {odd} is no text", code="bad_cluster_file", hint="write it in quotes")
    schema = ray_schema()
    errors = sorted(jsonschema.Draft7Validator(schema).iter_errors(config), key=lambda error: error.validator != "additionalProperties")
    if not errors:
        return
    first = errors[0]
    where = ".".join(str(part) for part in first.absolute_path)
    if first.validator == "additionalProperties" and isinstance(first.instance, dict):
        known = list(first.schema.get("properties", {}))
        key = next((str(key) for key in first.instance if key not in known), "")
        full = f"{where}.{key}" if where else key
        raise UnknownNameError(f"unknown key {full}", code="bad_cluster_file", hint=nearest_hint(key, known))
    raise ConfigError(f"{where + ': ' if where else ''}{first.message}", code="bad_cluster_file", hint="cluster_configs/ has whole files")


def _odd_key(plain: object, where: str) -> str | None:
    """The first key that is no text: YAML reads `1:` and `yes:` as a number and a truth, over which the schema's patterns stumble."""
    if not isinstance(plain, Mapping):
        return None
    for key, value in plain.items():
        odd = _odd_key(value, f"{where}{key}.") if isinstance(key, str) else f"{where}{key}"
        if odd is not None:
            return odd
    return None


def ray_schema() -> dict[str, Any]:
    """Ray's schema of cluster files, read beside the installed Ray without importing it. Raises: RuntimeFault."""
    spec = find_spec("ray")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeFault("Ray is not installed here", code="not_installed", hint="pip install .")
    schema: dict[str, Any] = json.loads((Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    return schema
