"""scikit-learn estimators and pipelines from a pickle, and whatever else predicts as they do.

A classifier gives `predict` and, where it can, `predict_proba`; a regressor gives `predict`; a transformer `transform`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import joblib
import numpy

from fabric.errors import ModelError, UserError
from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import DEFAULT_MAX_BATCH_SIZE
from serve_apps.runtimes.refusals import closed, failed, refuse_precision, unreadable, unsupported
from serve_apps.runtimes.text_arrays import decoded, encoded
from serve_apps.tensors import DTYPES, Array, ModelMetadata, TensorSpec, datatype_of

INPUT = "x"
_METHODS = ("predict", "predict_proba", "transform")


class Estimator:
    """One fitted estimator. Safe to call from several threads: to predict changes nothing in it."""

    def __init__(self, estimator: Any, metadata: ModelMetadata) -> None:
        self._methods: dict[str, Callable[[Any], Any]] = {spec.name: getattr(estimator, spec.name) for spec in metadata.outputs}
        self._takes_text = metadata.inputs[0].datatype == "BYTES"
        self._datatypes = {spec.name: spec.datatype for spec in metadata.outputs}
        self.metadata = metadata

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        """The file runs code as it is loaded: whoever calls this trusts it."""
        refuse_precision(options, "a scikit-learn model")
        try:
            estimator = joblib.load(path)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            hint = "pip install 'tierfabric[sklearn]'" if package == "sklearn" else f"install {package} where the model shall run"
            raise UserError(f"{path} needs the package {package}", code="missing_package", hint=hint, package=package) from error
        except Exception as error:
            raise unreadable("joblib", path, error) from error
        return cls(estimator, _describe(estimator, path, options))

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if not self._methods:
            raise closed()
        try:
            rows = decoded(inputs[INPUT]) if self._takes_text else inputs[INPUT]
            return {name: self._as_declared(name, method(rows)) for name, method in self._methods.items()}
        except Exception as error:
            raise failed(error) from error

    def close(self) -> None:
        self._methods = {}

    def _as_declared(self, name: str, made: Any) -> Array:
        array = numpy.asarray(made.toarray() if hasattr(made, "toarray") else made)
        if self._datatypes[name] == "BYTES":
            return encoded(array.astype(object))
        return array.astype(DTYPES[self._datatypes[name]], copy=False)


def _describe(estimator: Any, path: Path, options: LoadOptions) -> ModelMetadata:
    given = _input(estimator, path, options)
    known = _classes(estimator)
    methods = [name for name in _METHODS if hasattr(estimator, name)]
    if not methods or methods == ["predict_proba"]:
        raise ModelError(
            f"{path} holds a {type(estimator).__module__}.{type(estimator).__name__}, which neither predicts nor transforms",
            code="unsupported_signature",
            hint="pickle the fitted estimator or pipeline itself",
        )
    if "predict" in methods and "transform" in methods:
        methods.remove("transform")  # a clusterer: its distances are a by-product
    outputs = [_output(name, estimator, known) for name in methods]
    return ModelMetadata("", (), "sklearn_pickle", (given,), tuple(outputs), DEFAULT_MAX_BATCH_SIZE)


def _input(estimator: Any, path: Path, options: LoadOptions) -> TensorSpec:
    """What it was fitted on: columns of numbers, or lines of text. Raises: `ModelError` (`needs_signature`, `unsupported_signature`)."""
    if options.inputs:
        (spec,) = options.inputs
        return TensorSpec(INPUT, spec.datatype, spec.shape)
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    if hasattr(first, "build_analyzer"):
        return TensorSpec(INPUT, "BYTES", (-1,))
    if type(first).__name__ == "ColumnTransformer":
        raise unsupported("the input", "table with columns of different kinds", "wrap the model in a ModelService that builds the table")
    num = getattr(estimator, "n_features_in_", None)
    if num is None:
        raise ModelError(
            f"{path} does not say how many columns it was fitted on",
            code="needs_signature",
            hint='load_model(path, inputs=[TensorSpec("x", "FP64", (-1, …))])',
        )
    return TensorSpec(INPUT, "FP64", (-1, int(num)))


def _classes(estimator: Any) -> Array | None:
    found = getattr(estimator, "classes_", None)
    return numpy.asarray(found) if found is not None and not isinstance(found, list) else None


def _output(name: str, estimator: Any, classes: Array | None) -> TensorSpec:
    if name == "predict_proba":
        return TensorSpec(name, "FP64", (-1, -1 if classes is None else len(classes)))
    if name == "transform":
        return TensorSpec(name, "FP64", (-1, -1))
    if classes is not None:
        return TensorSpec(name, datatype_of(classes), (-1,))
    is_cluster = getattr(estimator, "_estimator_type", None) == "clusterer" or hasattr(estimator, "labels_")
    num_targets = numpy.asarray(getattr(estimator, "coef_", 0)).ndim
    return TensorSpec(name, "INT64" if is_cluster else "FP64", (-1, -1) if num_targets == 2 and not is_cluster else (-1,))
