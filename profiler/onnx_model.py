"""Reads an ONNX file: what it takes, the FLOPs and bytes of one call, the most memory it holds, what kind of work it is.

Nothing is run. Shapes are inferred by the `onnx` package, on the model without its large weights. What has no rule or no shape is
left out and named in the notes, never guessed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric.errors import UserError
from profiler.model_facts import ModelFacts, Sight, Tensor, assumptions, bound_shape, unreadable
from profiler.op_costs import CPU_ONLY, ELEMENTWISE, FREE, MOVES, Op, Shape, UncountedOpError, flops_of
from profiler.roofline import Cost

_DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "float64", "STRING": "str"}
_MODEL_DTYPES = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "fp64", "INT8": "int8", "UINT8": "int8"}
_BITS = {"DOUBLE": 64, "INT64": 64, "UINT64": 64, "FLOAT": 32, "INT32": 32, "UINT32": 32, "FLOAT16": 16, "BFLOAT16": 16, "INT16": 16}
_WITH_RANK = ("Conv", "Pool", "ConvTranspose", "ConvInteger", "BatchNormalization")
_MOST_COUNTED_BYTES = 2**16
"""Constants up to this size may hold shapes, so that inference needs their values; larger ones are weights."""


def read_onnx(path: Path, *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None) -> ModelFacts:
    """The facts of an ONNX file, for one call of these shapes (input name -> shape).

    Raises: ModelError `unreadable_model`; UserError `missing_package`, `unknown_input`.
    """
    try:
        import onnx
    except ImportError as error:
        hint = "pip install 'tierfabric[profile]'"
        raise UserError("FLOPs of an ONNX file need the package onnx", code="missing_package", hint=hint, package="onnx") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node or not model.opset_import:
            raise ValueError("it has no operations")
    except Exception as error:  # protobuf's errors share no public root, and a wrong file may raise any of them
        raise unreadable(path, error) from error
    graph = _Graph.of(model, onnx)
    assumed: dict[str, str] = {}
    inputs = graph.bind(batch, shapes or {}, assumed)
    shapes_known, failure = _inferred(model, onnx, graph)
    graph.shapes.update(shapes_known)
    cost, uncounted = _cost(graph)
    notes = [*assumptions(assumed), *_gaps(uncounted, failure)]
    domains = {entry.domain for entry in model.opset_import}
    sight = Sight(tuple(sorted(set(_classes(graph)))), tuple(sorted(name for name in {model.producer_name, *domains} if name)), inputs)
    cpu_only = tuple(sorted({kind for kind, _, _, _ in graph.nodes if kind in CPU_ONLY}))
    return ModelFacts("onnx", inputs, cost, graph.num_parameters, sight, cpu_only, tuple(notes))


@dataclass(slots=True)
class _Graph:
    """An ONNX graph as plain Python."""

    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = field(default_factory=list)
    """(operation, inputs, outputs, attributes) in the order of running."""
    weights: dict[str, tuple[Shape, str]] = field(default_factory=dict)
    """Initialiser -> (shape, ONNX dtype)."""
    shapes: dict[str, Shape] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    """Tensor -> bytes of an element, where it is not that of most weights."""
    outputs: list[str] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)
    """The inputs that a caller must give, as protobufs."""
    num_subgraphs: int = 0
    onnx: Any = None

    @classmethod
    def of(cls, model: Any, onnx: Any) -> _Graph:
        graph = cls(onnx=onnx)
        name_of = onnx.TensorProto.DataType.Name
        for tensor in model.graph.initializer:
            graph.weights[tensor.name] = (tuple(tensor.dims), name_of(tensor.data_type))
        for sparse in model.graph.sparse_initializer:
            graph.weights[sparse.values.name] = (tuple(sparse.dims), name_of(sparse.values.data_type))
        for node in model.graph.node:
            attributes = {}
            for attribute in node.attribute:
                is_graph = attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
                graph.num_subgraphs += is_graph
                if node.op_type == "Constant" and attribute.name == "value":
                    graph.weights[node.output[0]] = (tuple(attribute.t.dims), name_of(attribute.t.data_type))
                elif not is_graph:
                    attributes[attribute.name] = _plain(onnx.helper.get_attribute_value(attribute))
            graph.nodes.append((node.op_type, list(node.input), list(node.output), attributes))
        graph.shapes.update({name: shape for name, (shape, _) in graph.weights.items()})
        graph.outputs = [value.name for value in model.graph.output]
        graph.given = [value for value in model.graph.input if value.name not in graph.weights]
        return graph

    @property
    def num_parameters(self) -> int:
        """Weights, and what `ai.onnx.ml` keeps in attributes."""
        held = sum(len(value) for _, _, _, attributes in self.nodes for value in attributes.values() if _is_figures(value))
        return sum(math.prod(shape) for shape, _ in self.weights.values()) + held

    @property
    def main_dtype(self) -> str:
        """The ONNX dtype of most weights' bytes."""
        sizes: Counter[str] = Counter()
        for shape, dtype in self.weights.values():
            if dtype in _MODEL_DTYPES:
                sizes[dtype] += math.prod(shape)
        return max(sizes, key=lambda name: sizes[name]) if sizes else "FLOAT"

    def bind(self, batch: int, shapes: Mapping[str, tuple[int, ...]], assumed: dict[str, str]) -> tuple[Tensor, ...]:
        """Settle the inputs' shapes, in the protobufs too. Raises: UserError `unknown_input`."""
        names = [value.name for value in self.given]
        if unknown := sorted(set(shapes) - set(names)):
            raise UserError(f"the model has no input {unknown[0]!r}", code="unknown_input", hint=f"its inputs: {', '.join(names)}")
        return tuple(self._bound(value, batch, shapes, assumed) for value in self.given)

    def _bound(self, value: Any, batch: int, shapes: Mapping[str, tuple[int, ...]], assumed: dict[str, str]) -> Tensor:
        proto = value.type.tensor_type
        name = self.onnx.TensorProto.DataType.Name(proto.elem_type)
        dtype = _DTYPES.get(name, name.lower())
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in proto.shape.dim)
        shape = bound_shape(value.name, dtype, dims, batch=batch, given=shapes, assumed=assumed)
        del proto.shape.dim[:]
        for size in shape:
            proto.shape.dim.add().dim_value = size
        self.shapes[value.name] = shape
        self.widths[value.name] = _BITS.get(name, 8) // 8
        return Tensor(value.name, dtype, shape)


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if type(value) is bytes else value


def _is_figures(value: Any) -> bool:
    return hasattr(value, "__len__") and len(value) > 0 and type(value[0]) is float


def _inferred(model: Any, onnx: Any, graph: _Graph) -> tuple[dict[str, Shape], str]:
    """(tensor -> shape, what failed) by ONNX's own inference, without the values of large weights."""
    for tensor in model.graph.initializer:
        if tensor.ByteSize() > _MOST_COUNTED_BYTES:
            tensor.ClearField("raw_data")
            for field_name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field_name)
    # A graph's declared outputs may contradict the batch that was chosen, or its weights: they are inferred anew.
    for value in model.graph.output:
        value.ClearField("type")
    del model.graph.value_info[:]
    try:
        done = onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=False)
    except Exception as error:
        return {}, " ".join(str(error).split())[:120]
    found = {}
    for value in (*done.graph.value_info, *done.graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):
                found[value.name] = tuple(dim.dim_value for dim in dims)
            graph.widths.setdefault(value.name, _BITS.get(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type), 8) // 8)
    return found, ""


def _cost(graph: _Graph) -> tuple[Cost | None, Counter[str]]:
    """What one call computes and moves, and the operations that could not be counted."""
    flops, num_kernels = 0.0, 0
    uncounted: Counter[str] = Counter()
    for kind, inputs, outputs, attributes in graph.nodes:
        op = Op(kind, tuple(graph.shapes.get(n) if n else () for n in inputs), tuple(graph.shapes.get(n) for n in outputs), attributes)
        try:
            flops += flops_of(op)
        except (UncountedOpError, IndexError, KeyError, ValueError, TypeError):
            uncounted[kind] += 1
        num_kernels += kind not in FREE and kind not in ELEMENTWISE
    if sum(uncounted.values()) > 0.1 * len(graph.nodes) or graph.num_subgraphs:
        return None, uncounted
    weights_bytes = sum(_bytes_of(graph, name) for name in graph.weights) + 4 * (graph.num_parameters - _num_weights(graph))
    tables = {inputs[0] for kind, inputs, _, _ in graph.nodes if kind == "Gather" and inputs[0] in graph.weights}
    tables -= {name for kind, inputs, _, _ in graph.nodes if kind != "Gather" for name in inputs}
    # Of a table a call reads the rows that it looks up, and those are the operation's result.
    moved = weights_bytes - sum(_bytes_of(graph, name) for name in tables)
    moved += sum(_moved(graph, kind, inputs, outputs) for kind, inputs, outputs, _ in graph.nodes)
    dtype = _MODEL_DTYPES.get(graph.main_dtype, "fp32")
    return Cost(flops, moved, dtype, int(weights_bytes), int(weights_bytes + _most_alive(graph)), num_kernels), uncounted


def _num_weights(graph: _Graph) -> int:
    return sum(math.prod(shape) for shape, _ in graph.weights.values())


def _bytes_of(graph: _Graph, name: str) -> float:
    if name in graph.weights:
        shape, dtype = graph.weights[name]
        return math.prod(shape) * _BITS.get(dtype, 8) / 8
    width = graph.widths.get(name, _BITS.get(graph.main_dtype, 32) // 8)
    return float(math.prod(graph.shapes.get(name, ())) * width) if name in graph.shapes else 0.0


def _moved(graph: _Graph, kind: str, inputs: Iterable[str], outputs: Iterable[str]) -> float:
    """Activations that an operation reads and writes. An element-wise one is fused into what feeds it: it only reads its others."""
    if kind in FREE:
        return 0.0
    read = [_bytes_of(graph, name) for name in inputs if name and name not in graph.weights]
    if kind in ELEMENTWISE:
        return sum(sorted(read)[:-1])
    if kind == "Gather" and kind in MOVES:
        read = []  # rows of a table, as many as come out
    return sum(read) + sum(_bytes_of(graph, name) for name in outputs)


def _most_alive(graph: _Graph) -> float:
    """The most bytes of activations that are needed at one moment, in the order of running."""
    last_use = {name: index for index, (_, inputs, _, _) in enumerate(graph.nodes) for name in inputs}
    last_use.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
    alive = {value.name: _bytes_of(graph, value.name) for value in graph.given}
    now = sum(alive.values())
    most = now
    for index, (kind, inputs, outputs, _) in enumerate(graph.nodes):
        for name in outputs:
            if name not in graph.weights and name not in alive:
                alive[name] = 0.0 if kind in FREE else _bytes_of(graph, name)
                now += alive[name]
        most = max(most, now)
        for name in {*inputs, *outputs}:
            if last_use.get(name, index) <= index:
                now -= alive.pop(name, 0.0)
    return most


def _gaps(uncounted: Counter[str], failure: str) -> Iterable[str]:
    if failure:
        yield f"shapes could not be inferred ({failure})"
    if uncounted:
        named = ", ".join(f"{kind} ×{num}" for kind, num in uncounted.most_common(4))
        yield f"not counted: {named}"


def _classes(graph: _Graph) -> Iterable[str]:
    """The operations as words; of convolutions and pools with their number of dimensions, of a table that ids look up, an embedding."""
    made_of_ids = {value.name for value in graph.given if value.type.tensor_type.elem_type in (graph.onnx.TensorProto.INT64, 6)}
    for kind, inputs, outputs, _ in graph.nodes:
        name = kind.lower()
        rank = len(graph.shapes.get(inputs[0], ())) if inputs and inputs[0] else 0
        yield f"{name}{rank - 2}d" if rank > 2 and kind.endswith(_WITH_RANK) else name
        if kind in ("Cast", "Reshape", "Unsqueeze", "Identity") and inputs and inputs[0] in made_of_ids:
            made_of_ids.update(outputs)
        if kind == "Gather" and len(inputs) > 1 and inputs[1] in made_of_ids and len(graph.weights.get(inputs[0], ((),))[0]) == 2:
            yield "tokenembedding" if len(graph.shapes.get(inputs[1], ())) > 1 else "idembedding"
