"""MindSpore models in MINDIR files, on CPU."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import mindspore
import numpy
from mindspore.device_context.cpu import op_tuning
from mindspore.train import mind_ir_pb2

from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.batch_dimension import max_batch_size
from serve_apps.runtimes.refusals import closed, failed, refuse_precision, unreadable, unsupported
from serve_apps.tensors import Array, ModelMetadata, TensorSpec

_log = logging.getLogger(__name__)
_DATATYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "DOUBLE": "FP64",
    "FLOAT64": "FP64",
    "BOOL": "BOOL",
    **{f"{sign}INT{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


class MindIr:
    """One graph. MindSpore compiles it for each new shape, so that calls from several threads take turns."""

    def __init__(self, cell: Any, metadata: ModelMetadata) -> None:
        self._cell = cell
        self.metadata = metadata
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path, options: LoadOptions) -> Self:
        refuse_precision(options, "a MINDIR model")
        try:
            _set_up(options.num_threads)
            graph = mind_ir_pb2.ModelProto.FromString(path.read_bytes()).graph
            cell = mindspore.nn.GraphCell(_loaded(path))
        except Exception as error:
            raise unreadable("mindspore", path, error) from error
        return cls(cell, _describe(graph))

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            if self._cell is None:
                raise closed()
            try:
                made = self._cell(*(_tensor(inputs[spec.name], spec.datatype) for spec in self.metadata.inputs))
                given = made if isinstance(made, tuple | list) else (made,)
                return {spec.name: _array(value, spec.datatype) for spec, value in zip(self.metadata.outputs, given, strict=True)}
            except Exception as error:
                raise failed(error) from error

    def close(self) -> None:
        with self._lock:
            self._cell = None


def _loaded(path: Path) -> Any:
    """MindSpore loads only what is called `.mindir`; a file of another name is reached through a link that is."""
    if path.suffix == ".mindir":
        return mindspore.load(str(path))
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"{path.name}.mindir"
        link.symlink_to(path)
        return mindspore.load(str(link))


def _set_up(num_threads: int) -> None:
    """For the whole process; MindSpore takes the number of threads once."""
    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        op_tuning.threads_num(num_threads)
    except RuntimeError:
        _log.info("mindspore_threads_stay")


def _tensor(array: Array, datatype: str) -> Any:
    if datatype == "BF16":
        return mindspore.Tensor((array.astype(numpy.uint32) << 16).view(numpy.float32), mindspore.bfloat16)
    return mindspore.Tensor(array)


def _array(tensor: Any, datatype: str) -> Array:
    if datatype == "BF16":
        return (tensor.float().asnumpy().view(numpy.uint32) >> 16).astype(numpy.uint16)  # type: ignore[no-any-return]
    return tensor.asnumpy()  # type: ignore[no-any-return]


def _describe(graph: Any) -> ModelMetadata:
    # An input's name in the file is `12_7___main___Net_construct_6:x`; an output's says nothing at all.
    inputs = [_spec(value, value.name.rpartition(":")[2]) for value in graph.input]
    outputs = [_spec(value, f"output_{place}") for place, value in enumerate(graph.output)]
    shapes = [[None if size < 0 else size for size in spec.shape] for spec in (*inputs, *outputs)]
    return ModelMetadata("", (), "mindspore_mindir", tuple(inputs), tuple(outputs), max_batch_size(shapes))


def _spec(value: Any, name: str) -> TensorSpec:
    if len(value.tensor) != 1:
        raise unsupported(repr(name), f"list of {len(value.tensor)} tensors")
    kind = mind_ir_pb2.TensorProto.DataType.Name(value.tensor[0].data_type)
    if kind not in _DATATYPES:
        raise unsupported(repr(name), kind.lower())
    return TensorSpec(name, _DATATYPES[kind], tuple(int(size) if size >= 0 else -1 for size in value.tensor[0].dims))
