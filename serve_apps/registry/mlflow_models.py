"""Versions from and to an MLflow model registry, by its own client (`mlflow-skinny`, the extra `mlflow`).

Of an MLflow model the part that runs here is taken: the file or folder that its flavor loads.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fabric.errors import ModelError, RuntimeFault, UnknownNameError, UserError
from fabric.registry.version import ModelVersion
from fabric.tensor_spec import TensorSpec
from serve_apps.registry.client import ModelRegistry
from serve_apps.registry.elsewhere import Found, Place, Say, kept_metadata, kept_name
from serve_apps.registry.reading import read_model
from serve_apps.runtimes.formats import recognise
from serve_apps.tensors import DTYPES

MLMODEL = "MLmodel"
EXPERIMENT = "tierfabric"
_FLAVOR_KEYS = ("data", "pickled_model", "saved_model_dir", "model_data")
_FLAVORS = {
    "onnx": ("onnx", "data"),
    "scikit-learn": ("sklearn", "pickled_model"),
    "tensorflow-savedmodel": ("tensorflow", "saved_model_dir"),
}


def mlflow_models(place: Place, say: Say) -> Iterator[Found]:
    """Every version of the named model, or of all, the oldest first. A version lies on this machine only until the next is asked for.

    Raises: UserError (`missing_package`), UnknownNameError (`unknown_model`, `unknown_version`), RuntimeFault (`mlflow_failed`).
    """
    mlflow, client = _client(place.address)
    with _faults(place):
        names = [place.name] if place.name else sorted(model.name for model in client.search_registered_models())
    for name in names:
        with _faults(place):
            model = _registered(client, name)
            versions = sorted(client.search_model_versions(f"name = {_quoted(name)}"), key=lambda version: int(version.version))
        aliases: Mapping[str, Any] = model.aliases
        wanted = str(aliases.get(place.word, place.word))
        if wanted and wanted not in {str(version.version) for version in versions}:
            raise UnknownNameError.of("version", place.word, [*(str(version.version) for version in versions), *aliases])
        for version in versions:
            if wanted in ("", str(version.version)):
                called = tuple(alias for alias, number in aliases.items() if str(number) == str(version.version))
                yield from _found(mlflow, client, place, version, called, say)


def export_to_mlflow(registry: ModelRegistry, ref: str, place: Place) -> str:
    """A version with its metrics, metadata and aliases, as a new version there; `name:version` as MLflow calls it. Raises: as above."""
    _, client = _client(place.address)
    version = registry.find(ref)
    name = place.name or version.name
    with tempfile.TemporaryDirectory(prefix="fabric-") as folder, _faults(place):
        root = Path(folder) / "model"
        registry.fetch(version.ref, root)
        (root / MLMODEL).write_text(yaml.safe_dump(mlmodel_of(version), sort_keys=False), encoding="utf-8")
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        run = client.create_run(experiment_id, tags={"tierfabric.ref": version.ref}).info
        client.log_artifacts(run.run_id, str(root), "model")
        for metric, value in version.metrics.items():
            client.log_metric(run.run_id, metric, value)
        client.set_terminated(run.run_id)
        if name not in {model.name for model in client.search_registered_models(f"name = {_quoted(name)}")}:
            client.create_registered_model(name)
        tags = {**version.metadata, "tierfabric.ref": version.ref, "tierfabric.digest": version.digest}
        made = client.create_model_version(name, source=f"{run.artifact_uri}/model", run_id=run.run_id, tags=tags)
        for alias in version.aliases:
            client.set_registered_model_alias(name, alias, made.version)
    return f"{name}:{made.version}"


def mlmodel_of(version: ModelVersion) -> dict[str, Any]:
    """MLflow's description of a model: its flavor, where MLflow has one for it, and its signature."""
    flavor, key = _FLAVORS.get(version.framework, ("tierfabric", "data"))
    flavors = {flavor: {key: version.main or "."}}
    document: dict[str, Any] = {"flavors": {**flavors, "tierfabric": {"data": version.main or ".", "framework": version.framework}}}
    if version.signature is not None:
        sides = {"inputs": version.signature.inputs, "outputs": version.signature.outputs}
        document["signature"] = {side: json.dumps([_tensor_json(spec) for spec in specs]) for side, specs in sides.items()}
    return document


def _found(mlflow: Any, client: Any, place: Place, version: Any, aliases: tuple[str, ...], say: Say) -> Iterator[Found]:
    ref = f"{version.name}:{version.version}"
    with tempfile.TemporaryDirectory(prefix="fabric-") as folder:
        with _faults(place):
            uri = client.get_model_version_download_uri(version.name, version.version)
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=place.address or None))
            run = client.get_run(version.run_id) if version.run_id else None
        path = _loadable(root)
        if path is None:
            say(f"{ref}: no part of it has a format that runs here, and it is left out")
            return
        try:
            # It was downloaded a moment ago, by this user, for this user.
            read = read_model(path)
        except ModelError as error:
            if error.code not in ("unsafe_model", "needs_signature"):
                raise
            read = read_model(path, loads=False)
        if read.note:
            say(f"{ref}: what it takes and gives is not known: {read.note}")
        said = {**version.tags, **({"description": version.description} if version.description else {}), "mlflow.version": ref}
        metrics = {} if run is None else run.data.metrics
        source = f"mlflow:{place.address}#{ref}"
        yield Found(kept_name(version.name), str(version.version), read, source, kept_metadata(said), metrics, aliases)


def _loadable(root: Path) -> Path | None:
    """What the model's flavor loads; where no flavor says so, the one part of it whose format is known."""
    description = root / MLMODEL
    flavors = (yaml.safe_load(description.read_text(encoding="utf-8")) or {}).get("flavors", {}) if description.is_file() else {}
    named = [root / str(flavor[key]) for flavor in flavors.values() if isinstance(flavor, dict) for key in _FLAVOR_KEYS if key in flavor]
    if root.is_file():
        return root if recognise(root) else None
    inside = [path for path in (*named, root, *sorted(root.iterdir())) if path.resolve().is_relative_to(root.resolve())]
    return next((path for path in inside if path.exists() and path.name != MLMODEL and recognise(path) is not None), None)


def _tensor_json(spec: TensorSpec) -> dict[str, Any]:
    dtype = "str" if spec.datatype == "BYTES" else "float32" if spec.datatype == "BF16" else DTYPES[spec.datatype].name
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(spec.shape)}, "name": spec.name}


def _registered(client: Any, name: str) -> Any:
    found = [model for model in client.search_registered_models(f"name = {_quoted(name)}") if model.name == name]
    if not found:
        raise UnknownNameError.of("model", name, [model.name for model in client.search_registered_models()])
    return client.get_registered_model(name)


def _quoted(name: str) -> str:
    """A name inside MLflow's filter language, which has no escapes. Raises: UserError (`bad_place`)."""
    if "'" in name:
        raise UserError(f"{name!r} cannot be looked for in MLflow", code="bad_place")
    return f"'{name}'"


def _client(address: str) -> tuple[Any, Any]:
    try:
        import mlflow
        import mlflow.artifacts
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError(
            "MLflow's registries need the package mlflow-skinny",
            code="missing_package",
            hint="pip install 'tierfabric[mlflow]'",
            package="mlflow",
        ) from error
    try:
        return mlflow, MlflowClient(tracking_uri=address or None, registry_uri=address or None)
    except Exception as error:  # an address of a kind that it does not know, or a store of which a part is not installed
        raise RuntimeFault(f"MLflow at {address}: {_first_line(error)}", code="mlflow_failed") from error


@contextlib.contextmanager
def _faults(place: Place) -> Iterator[None]:
    """What MLflow's client raises becomes ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError, ImportError) as error:
        hint = "a database needs the package mlflow itself" if isinstance(error, ImportError) else None
        raise RuntimeFault(f"MLflow at {place.address or 'its default'}: {_first_line(error)}", code="mlflow_failed", hint=hint) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
