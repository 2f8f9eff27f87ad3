"""What `load_model` gives: a model of any framework behind the checks that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from serve_apps.runtimes import ModelRuntime
from serve_apps.runtimes.signature import Signature
from serve_apps.runtimes.text_arrays import decoded
from serve_apps.tensors import Array, ModelMetadata, TensorSpec


class Model:
    """A loaded model. Safe to call from several threads."""

    def __init__(self, runtime: ModelRuntime) -> None:
        self.runtime = runtime
        self.metadata: ModelMetadata = runtime.metadata
        self._signature = Signature(self.metadata.inputs)
        self._text_outputs = [spec.name for spec in self.metadata.outputs if spec.datatype == "BYTES"]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.metadata.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.metadata.outputs

    def infer(self, inputs: Mapping[str, Any] | Any) -> dict[str, Array]:
        """Run the model once on lists or arrays, by name or, where the model has one input, as they are; gives every output by name.

        Values are converted to the declared dtype where nothing is lost. Text comes back as `str`.

        Raises: `ModelError` (`unknown_input`, `missing_input`, `wrong_dtype`, `wrong_shape`, `inference_failed`).
        """
        outputs = self.runtime.infer(self._signature.convert(inputs))
        for name in self._text_outputs:
            outputs[name] = decoded(outputs[name])
        return outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once on arrays that already have the declared dtype and shape; nothing is converted. For the data plane.

        `BYTES` goes in and comes out as object arrays of `bytes`, `BF16` as uint16. Raises: as `infer`.
        """
        self._signature.check(inputs)
        return self.runtime.infer(inputs)

    def close(self) -> None:
        """Free the model. Idempotent."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
